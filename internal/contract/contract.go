// Package contract holds what the operator, the receivers and the kubectl plugin have to agree on, written once. It is a
// leaf: it imports the standard library alone, so that each of them can import it.
//
// Operator and receivers are at most one release apart. A JSON name in here is therefore never renamed or given another
// meaning, and a reader ignores members that it does not know. The file testdata/status.json holds the names.
package contract
