package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/tsdb"
)

// Scrape holds the values of one scrape by the series, written as its name and labels.
type Scrape map[string]float64

// Scrape reads the receiver's metrics into the database as of now. The series name their webhook themselves.
func (l *Lab) Scrape(ctx context.Context, now time.Time) (Scrape, error) {
	return l.scrape(ctx, l.DB, l.ops+"/metrics", now, func(series labels.Labels) labels.Labels {
		return labels.NewBuilder(series).Set("pod", "support-receiver-0").Labels()
	})
}

func (l *lab) scrape(ctx context.Context, db *tsdb.DB, url string, now time.Time, relabel func(labels.Labels) labels.Labels) (Scrape, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := l.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	found := Scrape{}
	appender := db.Appender(ctx)
	for parser := textparse.NewPromParser(text, labels.NewSymbolTable(), false); ; {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return found, appender.Commit()
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read the scrape: %w", err), appender.Rollback())
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var series labels.Labels
		parser.Labels(&series)
		_, _, value := parser.Series()
		found[series.Get(labels.MetricName)+labels.NewBuilder(series).Del(labels.MetricName).Labels().String()] = value
		if _, err := appender.Append(0, relabel(series), timestamp.FromTime(now), value); err != nil {
			return nil, errors.Join(fmt.Errorf("keep the scrape: %w", err), appender.Rollback())
		}
	}
}
