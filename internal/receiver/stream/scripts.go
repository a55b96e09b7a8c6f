package stream

import (
	"slices"

	"github.com/redis/rueidis"
)

// scripts are the sources of all scripts, as passed to newScript.
var scripts []string

// newScript creates a script and registers it for Scripts.
func newScript(source string) *rueidis.Lua {
	scripts = append(scripts, source)
	return rueidis.NewLuaScript(source)
}

// Scripts returns the sources of all scripts. A Redis that has loaded them (SCRIPT LOAD) serves a Store whose user may
// call EVALSHA but not EVAL.
func Scripts() []string { return slices.Clone(scripts) }
