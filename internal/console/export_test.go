package console

import "time"

// Undoable makes discards begin when a test says so, by closing the channel.
func (c *Console) Undoable(until <-chan time.Time) {
	c.undoable = func() <-chan time.Time { return until }
}
