// Package mutations changes HeymarketWebhooks at random, one change after another, and holds each state against that of
// a fresh resource with the same spec: what a resource has been before must not show in its children. The changes are
// made from the CRD's schema, so a field that is added there is changed here.
//
// `make mutations` runs MUTATIONS changes, 10,000 by default; MUTATIONS_SEED repeats a run.
package mutations
