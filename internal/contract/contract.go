// Package contract defines, in one place, the names and formats on which the operator, the receivers and the kubectl
// plugin must agree. It is a leaf: it imports only the standard library, so that each of them can import it.
//
// Operator and receivers are at most one release apart. A JSON name in here is therefore never renamed or redefined, and
// a reader ignores unknown members. The file testdata/status.json holds the names.
package contract
