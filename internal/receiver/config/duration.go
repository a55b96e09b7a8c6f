package config

import (
	"bytes"
	"fmt"
	"time"
)

// Duration is a time.Duration that is parsed and formatted as "10s" or "96h", as in Kubernetes
// manifests.
type Duration time.Duration

// Std returns d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(bytes.TrimSpace(b)))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 10s or 96h", b)
	}
	*d = Duration(v)
	return nil
}
