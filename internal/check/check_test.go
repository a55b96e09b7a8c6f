package check

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"heymarket.dev/operator/api/v1alpha1"
)

const (
	namespace = "staging"
	name      = "trial"
	segment   = "abcdefghijklmnopqrstuvwxyz"
)

// operator stands in for an operator and its receiver: each case is about something that it does right or wrong.
type operator struct {
	t          *testing.T
	conditions []metav1.Condition
	known      map[int64]bool
	token      string
	target     string

	deaf         bool // delivers nothing
	forgetful    bool // delivers repeats
	careless     bool // accepts any token
	leaky        bool // delivers what it refuses
	talkative    bool // delivers the token
	unwellBefore int  // requests that are answered 503 at first
}

func ready() []metav1.Condition {
	return []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
}

// RoundTrip is the receiver behind its Service.
func (o *operator) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost || r.URL.Host != name+"-receiver."+namespace+".svc" || r.URL.Path != "/staging/trial/"+segment {
		o.t.Errorf("the request is %s %s", r.Method, r.URL)
	}
	status := o.answer(r)
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func (o *operator) answer(r *http.Request) int {
	if o.unwellBefore > 0 {
		o.unwellBefore--
		return http.StatusServiceUnavailable
	}
	var e event
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		o.t.Error(err)
	}
	status := http.StatusOK
	if e.Token != o.token && !o.careless {
		status = http.StatusUnauthorized
	}
	repeat := o.known[e.Data.ID]
	o.known[e.Data.ID] = true
	if !o.deaf && (!repeat || o.forgetful) && (status == http.StatusOK || o.leaky) {
		if !o.talkative {
			e.Token = ""
		}
		body, err := json.Marshal(e)
		if err != nil {
			o.t.Error(err)
		}
		response, err := http.Post(o.target, "application/json", bytes.NewReader(body))
		if err != nil || response.StatusCode != http.StatusOK {
			o.t.Errorf("deliver: %v", err)
		}
	}
	return status
}

// created handles the creation of an object as the operator does.
func (o *operator) created(ctx context.Context, c client.Client, object client.Object) error {
	switch object := object.(type) {
	case *corev1.Secret:
		o.token = object.StringData["token"]
	case *v1alpha1.HeymarketWebhook:
		if object.Spec.Exposure.Type != v1alpha1.ExposureNone || object.Spec.Token.SecretKeyRef.Name != object.Name {
			o.t.Errorf("the webhook is %+v", object.Spec)
		}
		o.target = *object.Spec.Targets[0].URL
		object.Status.Conditions = o.conditions
		if err := c.Status().Update(ctx, object); err != nil {
			return err
		}
		url := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + "-url"}, Data: map[string][]byte{
			"url": []byte("https://hooks.example.com/staging/trial/" + segment),
		}}
		return c.Create(ctx, url)
	}
	return nil
}

// try runs a check against an operator and returns what it said, its error, and the cluster.
func try(t *testing.T, o *operator, there ...client.Object) (string, client.Client, error) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	o.t, o.known = t, map[int64]bool{}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(there...).WithStatusSubresource(&v1alpha1.HeymarketWebhook{}).
		WithInterceptorFuncs(interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.CreateOption) error {
			if err := c.Create(ctx, object, opts...); err != nil {
				return err
			}
			return o.created(ctx, c, object)
		}}).Build()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var said bytes.Buffer
	err = Check{Client: c, Namespace: namespace, Name: name, Listener: listener, Target: listener.Addr().String(), Transport: o, Out: &said}.Run(ctx)
	for _, secret := range []string{o.token, segment} {
		if strings.Contains(said.String(), secret) || err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("it tells a secret: %s %v", said.String(), err)
		}
	}
	return said.String(), c, err
}

func TestAnOperatorThatWorks(t *testing.T) {
	t.Parallel()
	left := metav1.ObjectMeta{Namespace: namespace, Name: name}
	said, c, err := try(t, &operator{conditions: ready(), unwellBefore: 1}, &corev1.Secret{ObjectMeta: left}, &v1alpha1.HeymarketWebhook{ObjectMeta: left})
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, sentence := range []string{"Created HeymarketWebhook staging/trial", "Ready", "An event is accepted", "received it", "repeat", "wrong token is refused", "Removed both"} {
		if !strings.Contains(said, sentence) {
			t.Errorf("it does not say %q:\n%s", sentence, said)
		}
	}
	for _, object := range []client.Object{&corev1.Secret{}, &v1alpha1.HeymarketWebhook{}} {
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, object); !apierrors.IsNotFound(err) {
			t.Errorf("%T is left behind: %v", object, err)
		}
	}
}

func TestAnOperatorThatDoesNot(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		operator operator
		want     []string
	}{
		"says nothing": {operator{}, []string{"Ready", "is the operator running"}},
		"is not Ready": {operator{conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "NotDurable", Message: "as below"},
			{Type: v1alpha1.ConditionDurable, Status: metav1.ConditionFalse, Reason: "NotDurable", Message: "its append-only file is off; set appendonly yes."},
		}}, []string{"Durable is False (NotDurable)", "set appendonly yes"}},
		"delivers nothing":       {operator{conditions: ready(), deaf: true}, []string{"did not reach its target", "NetworkPolicy"}},
		"delivers repeats":       {operator{conditions: ready(), forgetful: true}, []string{"2 times", "repeat"}},
		"accepts any token":      {operator{conditions: ready(), careless: true}, []string{"wrong token", "answered 200, not 401"}},
		"delivers what it turns": {operator{conditions: ready(), leaky: true}, []string{"refused reached the target"}},
		"delivers the token":     {operator{conditions: ready(), talkative: true}, []string{"the token was passed on"}},
		"is unwell":              {operator{conditions: ready(), unwellBefore: 1000}, []string{"answered 503, not 200"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			said, c, err := try(t, &tc.operator)
			if err == nil {
				t.Fatalf("the check finds nothing wrong:\n%s", said)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error lacks %q: %v", part, err)
				}
			}
			if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &v1alpha1.HeymarketWebhook{}); !apierrors.IsNotFound(err) {
				t.Errorf("the webhook is left behind: %v", err)
			}
		})
	}
}
