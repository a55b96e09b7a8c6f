package console

import (
	"bytes"
	"cmp"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"heymarket.dev/operator/internal/receiver/admin"
)

const (
	// pageLetters is how many dead letters are shown per page, and grouped how many are read to group them by reason.
	pageLetters = 50
	grouped     = 1000
	// mostGroups bounds the groups that are shown.
	mostGroups = 8
	// editBytes bounds the form with an edited event: indented and percent-encoded, 1 MiB may take several times as much.
	editBytes = 8 << 20
)

// choice is the filter of a page of dead letters, as entered in its form.
type choice struct{ Type, Status, Reason, Text, Since, Until string }

// form is the time format of browser inputs.
const form = "2006-01-02T15:04"

func readChoice(q url.Values) choice {
	trimmed := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return choice{trimmed("type"), trimmed("status"), trimmed("reason"), trimmed("text"), trimmed("since"), trimmed("until")}
}

// query converts the choice to parameters of the administrative API, which validates it.
func (c choice) query() (url.Values, error) {
	q := url.Values{}
	for name, value := range map[string]string{"type": c.Type, "status": c.Status, "reason": c.Reason, "text": c.Text} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, value := range map[string]string{"diedSince": c.Since, "diedUntil": c.Until} {
		if value == "" {
			continue
		}
		at, err := time.ParseInLocation(form, value, time.Local)
		if err != nil {
			return nil, problem(http.StatusBadRequest, "Write times as 2026-11-21T12:00.")
		}
		q.Set(name, at.UTC().Format(time.RFC3339))
	}
	return q, nil
}

// Link returns the choice as URL parameters, with others added: names and values alternating.
func (c choice) Link(more ...string) template.URL {
	q := url.Values{}
	for name, value := range map[string]string{"type": c.Type, "status": c.Status, "reason": c.Reason, "text": c.Text, "since": c.Since, "until": c.Until} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return template.URL(q.Encode()) //nolint:gosec // Encode has escaped it
}

// Any reports whether the choice excludes anything.
func (c choice) Any() bool { return c != choice{} }

// With returns the choice with another reason.
func (c choice) With(reason string) choice {
	c.Reason = reason
	return c
}

// deadPage is the content of the page of dead letters.
type deadPage struct {
	Choice  choice
	Letters []admin.Letter
	// Next is the last entry, if more may follow.
	Next string
	// First reports that the page starts with the oldest letter.
	First bool
	// Jobs are the unfinished jobs.
	Jobs []jobState
}

// firstTarget redirects to the dead letters of the target that has most of them.
func (c *Console) firstTarget(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	hook, _, err := c.place.Webhook(r.Context(), name)
	if err != nil {
		return err
	}
	if len(hook.Spec.Targets) == 0 {
		return errNotFound
	}
	target, most := hook.Spec.Targets[0].Name, int64(0)
	for _, t := range hook.Status.Targets {
		if t.DeadLetters > most {
			target, most = t.Name, t.DeadLetters
		}
	}
	http.Redirect(w, r, deadPath(name, target), http.StatusSeeOther)
	return nil
}

// listed reads a page of dead letters.
func (c *Console) listed(r *http.Request) (found deadPage, err error) {
	found.Choice = readChoice(r.URL.Query())
	query, err := found.Choice.query()
	if err != nil {
		return found, err
	}
	after := r.URL.Query().Get("after")
	if found.First = after == ""; !found.First {
		query.Set("after", after)
	}
	query.Set("limit", strconv.Itoa(pageLetters))
	err = c.withLetters(r, func(l Letters) error {
		found.Letters, err = l.List(r.Context(), query)
		return err
	})
	if n := len(found.Letters); n == pageLetters {
		found.Next = found.Letters[n-1].Entry
	}
	return found, err
}

func (c *Console) withLetters(r *http.Request, do func(Letters) error) error {
	l, end, err := c.place.Letters(r.Context(), r.PathValue("name"), r.PathValue("target"))
	if err != nil {
		return err
	}
	defer end()
	return do(l)
}

func (c *Console) deadLetters(w http.ResponseWriter, r *http.Request) error {
	p, err := c.of(r, "dead", filter{}, 1)
	if err != nil {
		return err
	}
	found := deadPage{Choice: readChoice(r.URL.Query())}
	if found.Choice.Any() { // a search may look at every letter, so its rows follow the page
		_, err = found.Choice.query()
	} else {
		found, err = c.listed(r)
	}
	if err != nil {
		return err
	}
	found.Jobs = c.running(p.Name, r.PathValue("target"))
	p.Target, p.Data = r.PathValue("target"), found
	return c.render(w, http.StatusOK, "dead", p)
}

// deadRows serves the rows that follow.
func (c *Console) deadRows(w http.ResponseWriter, r *http.Request) error {
	found, err := c.listed(r)
	if err != nil {
		return err
	}
	return c.render(w, http.StatusOK, "rows", page{Name: r.PathValue("name"), Target: r.PathValue("target"), Data: found})
}

// group is the number of letters with one reason.
type group struct {
	Reason string
	Count  int
	Types  []string
}

// deadGroups groups the oldest letters by reason: reading all of them could take too long.
func (c *Console) deadGroups(w http.ResponseWriter, r *http.Request) error {
	chosen := readChoice(r.URL.Query())
	query, err := chosen.query()
	if err != nil {
		return err
	}
	query.Set("limit", strconv.Itoa(grouped))
	var letters []admin.Letter
	if err := c.withLetters(r, func(l Letters) error {
		letters, err = l.List(r.Context(), query)
		return err
	}); err != nil {
		return err
	}
	return c.render(w, http.StatusOK, "groups", page{Name: r.PathValue("name"), Target: r.PathValue("target"), Data: map[string]any{
		"Groups": byReason(letters), "Choice": chosen, "Bounded": len(letters) == grouped, "Of": len(letters),
	}})
}

func byReason(letters []admin.Letter) []group {
	found := map[string]*group{}
	for _, l := range letters {
		g := found[l.Reason]
		if g == nil {
			g = &group{Reason: l.Reason}
			found[l.Reason] = g
		}
		if g.Count++; !slices.Contains(g.Types, l.Type) {
			g.Types = append(g.Types, l.Type)
		}
	}
	groups := make([]group, 0, len(found))
	for _, g := range found {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Reason, b.Reason)) })
	return groups[:min(len(groups), mostGroups)]
}

// counted returns how many letters a choice selects.
func (c *Console) counted(r *http.Request, chosen choice) (n int, err error) {
	query, err := chosen.query()
	if err != nil {
		return 0, err
	}
	err = c.withLetters(r, func(l Letters) error {
		n, err = l.Count(r.Context(), query)
		return err
	})
	return n, err
}

func (c *Console) deadCount(w http.ResponseWriter, r *http.Request) error {
	n, err := c.counted(r, readChoice(r.URL.Query()))
	if err != nil {
		return err
	}
	return c.render(w, http.StatusOK, "count", page{Data: n})
}

// letter shows one dead letter without its content.
func (c *Console) letter(w http.ResponseWriter, r *http.Request) error {
	p, err := c.of(r, "dead", filter{}, 0)
	if err != nil {
		return err
	}
	found, err := c.oneLetter(r)
	if err != nil {
		return err
	}
	found.Body, found.BodyText, found.Excerpt = nil, "", ""
	p.Target, p.Data = r.PathValue("target"), found
	watched, err := c.watch(r.Context(), p.Name)
	if err != nil {
		return err
	}
	p.View = watched.since(0, filter{ID: found.Event}, 1)
	return c.render(w, http.StatusOK, "letter", p)
}

// letterContent shows the content of one, on request.
func (c *Console) letterContent(w http.ResponseWriter, r *http.Request) error {
	found, err := c.oneLetter(r)
	if err != nil {
		return err
	}
	text := admin.Readable(found.Body, found.BodyText)
	return c.render(w, http.StatusOK, "letter-content", page{Data: map[string]string{"Body": text, "Answer": found.Excerpt}})
}

func (c *Console) oneLetter(r *http.Request) (found admin.Letter, err error) {
	err = c.withLetters(r, func(l Letters) error {
		found, err = l.Show(r.Context(), r.PathValue("entry"))
		return err
	})
	return found, err
}

// edited is a dead letter whose content a person edits.
type edited struct {
	Letter admin.Letter
	// Text is the edited text, and Problem why it was not replayed; "" before.
	Text, Problem string
}

// editLetter shows the content of one letter in a form: who follows the link asks for it.
func (c *Console) editLetter(w http.ResponseWriter, r *http.Request) error {
	found, err := c.oneLetter(r)
	if err != nil {
		return err
	}
	return c.showEdited(w, r, http.StatusOK, edited{Letter: found, Text: admin.Readable(found.Body, found.BodyText)})
}

// showEdited renders the form: alone for htmx, or in its page.
func (c *Console) showEdited(w http.ResponseWriter, r *http.Request, status int, e edited) error {
	p := page{Name: r.PathValue("name"), Target: r.PathValue("target"), Data: e}
	if byHTMX(r) {
		return c.render(w, status, "edit-form", p)
	}
	p, err := c.of(r, "dead", filter{}, 1)
	if err != nil {
		return err
	}
	p.Target, p.Data = r.PathValue("target"), e
	return c.render(w, status, "edit", p)
}

// replayEdited replays a letter with the text of the form. Where that is rejected, the form comes back with the text and the reason.
func (c *Console) replayEdited(w http.ResponseWriter, r *http.Request) error {
	entry := r.PathValue("entry")
	e := edited{Letter: admin.Letter{Entry: entry}, Text: strings.ReplaceAll(r.PostFormValue("text"), "\r\n", "\n")} // browsers send CRLF
	text := admin.Edited(e.Text)
	err := c.withLetters(r, func(l Letters) error {
		found, err := l.Show(r.Context(), entry)
		if err != nil {
			return err
		}
		e.Letter = found
		switch {
		case strings.TrimSpace(e.Text) == "":
			return problem(http.StatusUnprocessableEntity, "The content is empty: nothing was replayed.")
		case bytes.Equal(text, admin.Edited(admin.Readable(e.Letter.Body, e.Letter.BodyText))):
			return problem(http.StatusUnprocessableEntity, "The content is unchanged: nothing was replayed. To deliver it as it is, go back and choose Replay.")
		}
		done, err := l.Replay(r.Context(), entry, nil, text, func(admin.Progress) {})
		if err == nil && done.Replayed == 0 {
			err = problem(http.StatusUnprocessableEntity, "It cannot be replayed: its data in Redis is not an event.")
		}
		return err
	})
	if err != nil {
		e.Problem = err.Error()
		return c.showEdited(w, r, statusOf(err), e)
	}
	watch := hookPath(r.PathValue("name")) + "/events?event=" + url.QueryEscape(e.Letter.Event)
	if byHTMX(r) {
		w.Header().Set("HX-Redirect", watch)
		return nil
	}
	http.Redirect(w, r, watch, http.StatusSeeOther)
	return nil
}

// Operations on dead letters.
const (
	replay  = "replay"
	discard = "discard"
)

// order is an operation that a person is asked to confirm.
type order struct {
	Operation, Entry string
	Choice           choice
	// Count is how many letters match at the moment of asking. Letters given up later are not affected.
	Count int
}

// Verb returns the operation as the first word of a sentence.
func (o order) Verb() string { return strings.ToUpper(o.Operation[:1]) + o.Operation[1:] }

func checkOperation(text string) error {
	if text != replay && text != discard {
		return problem(http.StatusBadRequest, "The operation is replay or discard.")
	}
	return nil
}

// confirm asks for confirmation before dead letters are changed.
func (c *Console) confirm(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	o := order{Operation: q.Get("operation"), Entry: q.Get("entry"), Choice: readChoice(q), Count: 1}
	if err := checkOperation(o.Operation); err != nil {
		return err
	}
	if o.Entry == "" {
		var err error
		if o.Count, err = c.counted(r, o.Choice); err != nil {
			return err
		}
	}
	return c.render(w, http.StatusOK, "confirm", page{Name: r.PathValue("name"), Target: r.PathValue("target"), Data: o})
}

// change starts the confirmed operation. The limit restricts it to the counted letters: the oldest ones.
func (c *Console) change(w http.ResponseWriter, r *http.Request) error {
	o := order{Operation: r.PostFormValue("operation"), Entry: r.PostFormValue("entry"), Choice: readChoice(r.PostForm), Count: 1}
	if err := checkOperation(o.Operation); err != nil {
		return err
	}
	query := url.Values{}
	if o.Entry == "" {
		var err error
		if o.Count, err = strconv.Atoi(r.PostFormValue("limit")); err != nil || o.Count < 1 {
			return problem(http.StatusBadRequest, "limit is the number of dead letters to change, from 1.")
		}
		if query, err = o.Choice.query(); err != nil {
			return err
		}
		query.Set("limit", strconv.Itoa(o.Count))
	}
	j, err := c.begin(r.PathValue("name"), r.PathValue("target"), o, query)
	if err != nil {
		return err
	}
	if !byHTMX(r) {
		http.Redirect(w, r, jobPath(j.ID), http.StatusSeeOther)
		return nil
	}
	return c.render(w, http.StatusOK, "job", page{Name: j.Name, Target: j.Target, Data: j.state()})
}
