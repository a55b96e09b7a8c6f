// Package browser opens Debian's Chromium for tests of the console.
package browser

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Open starts a Chromium that ends with the test, and returns the context of its page. Without one the test is skipped, unless
// HEYMARKET_REQUIRE_ALL is 1.
func Open(t *testing.T) context.Context {
	t.Helper()
	allocated, release := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path(t)), chromedp.NoSandbox, chromedp.WindowSize(1280, 900), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(time.Minute))...)
	t.Cleanup(release)
	page, closed := chromedp.NewContext(allocated)
	t.Cleanup(closed)
	// The browser lives as long as the context of the first action.
	if err := chromedp.Do(page, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return page
}

func path(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("HEYMARKET_REQUIRE_ALL") == "1" {
		t.Fatal("there is no Chromium: install it (Debian: apt-get install chromium)")
	}
	t.Skip("there is no Chromium: install it (Debian: apt-get install chromium)")
	return ""
}
