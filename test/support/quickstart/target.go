package quickstart

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Target is the echo target of a namespace, reached through the API server, so that it works with every cluster.
type Target struct {
	cluster   *Cluster
	namespace string
	service   string
}

// Target is the echo behind a Service of a namespace, at its port 8080.
func (c *Cluster) Target(namespace, service string) Target {
	return Target{cluster: c, namespace: namespace, service: service}
}

// Received is one request that a target has recorded.
type Received struct {
	Seq     int               `json:"seq"` // counts from 1
	Time    time.Time         `json:"time"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Status  int               `json:"status"`
}

// received is the part of a delivery that the demo and the tests check.
type received struct {
	Type string `json:"type"`
	Data struct {
		ID   int64  `json:"id"`
		Text string `json:"text"`
	} `json:"event_data"`
}

// Event is the type of the event that was received, its event_data.id and its text.
func (r Received) Event() (kind string, id int64, text string, err error) {
	var e received
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
		return "", 0, "", fmt.Errorf("the target received a body that is no event: %w", err)
	}
	return e.Type, e.Data.ID, e.Data.Text, nil
}

// EventID is the event's own id, which the receiver made.
func (r Received) EventID() string { return r.Headers["Webhook-Id"] }

// Received lists what came after the first records ever made.
func (t Target) Received(ctx context.Context, after int) ([]Received, error) {
	data, err := t.cluster.core.Get().Namespace(t.namespace).Resource("services").Name(t.service+":8080").SubResource("proxy").
		Suffix("received").Param("after", strconv.Itoa(after)).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask target %s/%s what it received: %w", t.namespace, t.service, err)
	}
	var list []Received
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("ask target %s/%s what it received: %w", t.namespace, t.service, err)
	}
	return list, nil
}

// Last is the number of the last record.
func (t Target) Last(ctx context.Context) (int, error) {
	list, err := t.Received(ctx, 0)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[len(list)-1].Seq, nil
}

// Step is the answer that a target gives to its next requests.
type Step struct {
	Status  int               `json:"status"`
	Delay   string            `json:"delay,omitempty"`
	Times   int               `json:"times,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
}

// Program sets the answers to the next requests; after them it is 200 again.
func (t Target) Program(ctx context.Context, steps ...Step) error {
	data, err := json.Marshal(steps)
	if err != nil {
		return err
	}
	_, err = t.cluster.core.Post().Namespace(t.namespace).Resource("services").Name(t.service + ":8080").SubResource("proxy").Suffix("program").Body(data).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("program target %s/%s: %w", t.namespace, t.service, err)
	}
	return nil
}
