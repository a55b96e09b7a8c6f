package stream

import (
	"strings"

	"github.com/redis/rueidis"
)

// PatchScripts replaces a text in the sources of all scripts of this process. It returns how many had it.
func PatchScripts(old, replacement string) (n int) {
	for _, script := range []struct {
		variable **rueidis.Lua
		own      string // what its source ends with
	}{
		{&accountsScript, accountsSource},
		{&appendScript, appendSource},
		{&clockScript, clockSource},
		{&countScript, countSource},
		{&deadScript, deadSource},
		{&discardScript, discardSource},
		{&doneScript, doneSource},
		{&extendScript, extendSource},
		{&findScript, findSource},
		{&groupScript, groupSource},
		{&laterScript, laterSource},
		{&listScript, listSource},
		{&probeScript, probeSource},
		{&removeScript, removeSource},
		{&replayScript, replaySource},
		{&takeScript, takeSource},
		{&targetsScript, targetsSource},
		{&tidyScript, tidySource},
	} {
		for _, source := range Scripts() {
			if strings.HasSuffix(source, script.own) && strings.Contains(source, old) {
				*script.variable = newScript(strings.Replace(source, old, replacement, 1))
				n++
			}
		}
	}
	return n
}
