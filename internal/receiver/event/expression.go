package event

import "crypto/sha256"

// byExpression is the profile of a key that a user's expression computes.
const byExpression = "expression"

// IdentityBy returns the identity of an event whose key a user's expression computes: that key alone.
func (d *Delivery) IdentityBy(namespace, name, value string) Identity {
	return Identity{Key: d.KeyBy(namespace, name, value), Rule: Any}
}

// KeyBy returns the identity of the event that d delivers to the webhook called namespace/name, where value instead
// of the profile of its type distinguishes events of that type.
func (d *Delivery) KeyBy(namespace, name, value string) Key {
	buf := make([]byte, 0, 256)
	for _, part := range [...]string{namespace, name, d.Type, byExpression, value} {
		buf = appendPart(buf, part)
	}
	sum := sha256.Sum256(buf)
	return Key(sum[:16])
}
