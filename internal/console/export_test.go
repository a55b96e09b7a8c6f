package console

import "time"

// Undoable makes discards begin when a test says so, by closing the channel.
func (c *Console) Undoable(until <-chan time.Time) {
	c.undoable = func() <-chan time.Time { return until }
}

// FormBounds returns the bound of forms, in bytes, by route; 0: the route declares none.
func (c *Console) FormBounds() map[string]int64 {
	bounds := map[string]int64{}
	for _, r := range c.routes() {
		bounds[r.pattern] = r.form
	}
	return bounds
}
