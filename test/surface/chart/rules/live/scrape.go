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
)

// scrape reads the receiver's metrics into the database, with the labels that the chart's PodMonitor gives them.
func (l *Lab) scrape(ctx context.Context, now time.Time) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.ops+"/metrics", nil)
	if err != nil {
		return err
	}
	response, err := l.client.Do(request)
	if err != nil {
		return fmt.Errorf("scrape: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("scrape: %w", err)
	}
	appender := l.DB.Appender(ctx)
	for parser := textparse.NewPromParser(text, labels.NewSymbolTable(), false); ; {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return appender.Commit()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read the scrape: %w", err), appender.Rollback())
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var series labels.Labels
		parser.Labels(&series)
		_, _, value := parser.Series()
		of := labels.NewBuilder(series).Set("namespace", "staging").Set("webhook", "support").Set("pod", "support-receiver-0").Labels()
		if _, err := appender.Append(0, of, timestamp.FromTime(now), value); err != nil {
			return errors.Join(fmt.Errorf("keep the scrape: %w", err), appender.Rollback())
		}
	}
}
