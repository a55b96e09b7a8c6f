package controller

import (
	"context"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func TestLivenessFailsWhileAReconcileHangs(t *testing.T) {
	t.Parallel()
	l := &Liveness{}
	entered, release := make(chan struct{}), make(chan struct{})
	hanging := l.watch(reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
		close(entered)
		<-release // It looks at no context.
		return reconcile.Result{}, nil
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = hanging.Reconcile(t.Context(), request("team", "support"))
	}()
	<-entered
	if err := l.check(time.Now()); err != nil {
		t.Errorf("check of a young reconcile = %v", err)
	}
	late := time.Now().Add(overdueAfter + time.Second)
	if err := l.check(late); err == nil || !strings.Contains(err.Error(), "team/support") {
		t.Errorf("check = %v, want an error that names team/support", err)
	}
	close(release)
	<-done
	if err := l.check(late); err != nil {
		t.Errorf("check after the reconcile has ended = %v", err)
	}
}
