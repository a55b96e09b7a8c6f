package stream

import (
	"slices"

	"github.com/redis/rueidis"
)

// scripts are the sources of all scripts, as newScript was given them.
var scripts []string

// newScript makes a script. Every one is made here, so that Scripts knows it.
func newScript(source string) *rueidis.Lua {
	scripts = append(scripts, source)
	return rueidis.NewLuaScript(source)
}

// Scripts returns the sources of all scripts. A Redis that has loaded them (SCRIPT LOAD) serves a Store whose user may use
// EVALSHA and not EVAL.
func Scripts() []string { return slices.Clone(scripts) }
