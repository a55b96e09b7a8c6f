package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/event"
)

// A person edits the text in a private file, which is kept only if it was changed.
func TestEditInAnEditor(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("KUBE_EDITOR", "")
	const text = "{\n  \"a\": 1\n}\n"
	for name, c := range map[string]struct {
		editor, want, problem string
	}{
		"changed":            {editor: `sed -i s/1/2/`, want: "{\n  \"a\": 2\n}\n"},
		"with an argument":   {editor: `sh -c 'stat -c %a "$1" >'"` + dir + `/mode"'; echo x > "$1"' sh`, want: "x\n"},
		"unchanged":          {editor: "true"},
		"emptied":            {editor: "truncate -s 0"},
		"only spaces":        {editor: `sh -c 'printf " \n" > "$1"' sh`},
		"deleted":            {editor: "rm", problem: "no such file"},
		"the editor fails":   {editor: `sh -c 'echo x > "$1"; exit 3' sh`, problem: "the editor failed: exit status 3"},
		"there is no editor": {editor: "nosucheditor", problem: "the editor failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("EDITOR", c.editor)
			file, edited, err := edit(t.Context(), []byte(text))
			if (err != nil) != (c.problem != "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("error %v, want %q", err, c.problem)
			}
			if string(edited) != c.want || (file == "") != (c.want == "") {
				t.Errorf("edited %q in %q, want %q", edited, file, c.want)
			}
			left, _ := filepath.Glob(filepath.Join(dir, "heymarket-*.json"))
			if len(left) != min(1, len(c.want)) {
				t.Errorf("these files are left: %q", left)
			}
			for _, f := range left {
				_ = os.Remove(f)
			}
		})
	}
	if mode, err := os.ReadFile(filepath.Join(dir, "mode")); err != nil || string(mode) != "600\n" {
		t.Errorf("the file's mode is %s, %v", mode, err)
	}
	t.Setenv("EDITOR", "false")
	t.Setenv("KUBE_EDITOR", "sed -i s/1/3/")
	if _, edited, err := edit(t.Context(), []byte(text)); err != nil || !strings.Contains(string(edited), "3") {
		t.Errorf("KUBE_EDITOR: %q, %v", edited, err)
	}
}

// The edited content is what the receiver gets, under the ID of the letter, and its rejections are reported.
func TestReplayEdited(t *testing.T) {
	t.Parallel()
	const good = `{"type":"chat_closed","event_data":{"text":"edited"}}`
	for name, c := range map[string]struct {
		edited  string
		full    bool
		problem string
	}{
		"good":         {edited: good},
		"empty":        {problem: "The body is empty"},
		"another type": {edited: strings.Replace(good, "closed", "opened", 1), problem: `the member "type" differs`},
		"too large":    {edited: good + strings.Repeat(" ", 1000), problem: "larger than the 1000 bytes"},
		"no room":      {edited: good, full: true, problem: "as many bytes in Redis"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, s := newLetters(t)
			s.full = c.full
			s.letters[1].Type, s.letters[1].Body = event.ChatClosed, []byte(`{"type":"chat_closed","event_data":{}}`)
			cmd, out := command(t)
			err := replayEdited(cmd, l, choice{entry: "1000-0", status: anyStatus, edited: []byte(c.edited)})
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) || s.edited != "" || len(s.letters) != 4 {
					t.Errorf("error %v, want %q; the store got %q", err, c.problem, s.edited)
				}
				return
			}
			if err != nil || s.edited != good || strings.Join(s.left(), " ") != "0000-0 2000-0 3000-0" || !strings.Contains(out.String(), "Replayed 1 dead letter of target crm.") {
				t.Errorf("%v; the store got %q and has %q; printed %s", err, s.edited, s.left(), out)
			}
		})
	}
}
