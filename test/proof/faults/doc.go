// Package faults puts a bad wire between the operator and a real API server. A scenario is run once without a fault, and
// its writes, watch events and cached reads are noted; then it is run again for each of them and for each way in which it
// can go wrong. Every run must come to the end that the good one came to, in bounded time and without a person.
//
// `make faults` runs all plans; a test run takes a sample, another one every day. FAULTS is the number of plans (0
// for all), FAULTS_SEED chooses them, and FAULTS_PLAN runs the plans whose names match a regular expression.
package faults
