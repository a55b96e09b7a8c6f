//go:build neighbours

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/test/support/quickstart"
)

// Namespaces of bystander Pods: strangers may do nothing, monitoring may scrape.
const strangers, monitoring = "strangers", "monitoring"

// firewall is the chain that queues packets for the agent of kube-network-policies, and what jumps to it. The agent writes such rules itself by nftables'
// own queue, which a kernel without CONFIG_NFT_QUEUE refuses; that of iptables does the same. What the node's root sends passes, as the agent has it:
// kubelet's probes and the API server.
func firewall(pods string) []string {
	return []string{
		"-N POLICIES",
		"-A POLICIES -m owner --uid-owner 0 -j RETURN",
		"-A POLICIES -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
		"-A POLICIES -s " + pods + " -j NFQUEUE --queue-num 100",
		"-A POLICIES -d " + pods + " -j NFQUEUE --queue-num 100",
		"-A POSTROUTING -j POLICIES",
	}
}

// enforcePolicies installs an enforcement of NetworkPolicies in the whole cluster until the test ends.
func enforcePolicies(t *testing.T) {
	t.Helper()
	status, err := driver.Run(t.Context(), "status", "--name", driver.Name)
	if err != nil {
		t.Fatal(err)
	}
	pods := regexp.MustCompile(`(?m)^pods +(\S+)$`).FindStringSubmatch(status)
	if pods == nil {
		t.Fatalf("the cluster does not say which addresses its Pods have:\n%s", status)
	}
	iptables := func(args string) error {
		_, err := driver.Run(context.WithoutCancel(t.Context()), "exec", append([]string{"--name", driver.Name, "iptables", "-t", "mangle"}, strings.Fields(args)...)...)
		return err
	}
	install(t, neighbour(t, "network-policies.yaml"), []string{"network-policies", "dial"}, "kube-system/daemonset/network-policies")
	t.Cleanup(func() {
		for _, rule := range []string{"-D POSTROUTING -j POLICIES", "-F POLICIES", "-X POLICIES"} {
			if err := iptables(rule); err != nil {
				t.Error(err)
			}
		}
		kubectl(t, "", "delete", "--namespace=kube-system", "daemonset/network-policies")
	})
	for _, rule := range firewall(pods[1]) {
		if err := iptables(rule); err != nil {
			t.Fatal(err)
		}
	}
}

// dropped is how many packets the agent has dropped so far.
func dropped(t *testing.T, node string) (total int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+node+":9080/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range regexp.MustCompile(`(?m)^kube_network_policies_packet_count\{.*verdict="drop"\} (\d+)$`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(line[1])
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}

// dial returns how each address can be reached from a container with the program of that name.
func dial(t *testing.T, namespace, pod, container string, addresses ...string) string {
	t.Helper()
	return kubectl(t, "", append([]string{"exec", "--namespace=" + namespace, pod, "--container=" + container, "--", "/dial"}, addresses...)...)
}

// debug adds the program dial to a receiver's Pod, whose network it then sees.
func debug(t *testing.T, pod corev1.Pod) (container string) {
	t.Helper()
	const name = "dial"
	kubectl(t, "", "debug", pod.Name, "--namespace="+pod.Namespace, "--container="+name, "--image=heymarket.dev/cluster/dial:dev", "--image-pull-policy=Never",
		"--profile=restricted", "--quiet", "--attach=false")
	err := quickstart.Poll(t.Context(), time.Minute, func(ctx context.Context) (bool, error) {
		var now corev1.Pod
		if err := cluster.Client.Get(ctx, client.ObjectKeyFromObject(&pod), &now); err != nil {
			return false, err
		}
		for _, status := range now.Status.EphemeralContainerStatuses {
			if status.State.Running != nil {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		t.Fatalf("container %s in Pod %s: %v", name, pod.Name, err)
	}
	return name
}

// With enforced NetworkPolicies, the connections that receivers need are allowed, and all others are dropped, in both directions.
func TestNetworkPoliciesAreEnforced(t *testing.T) {
	var manifest bytes.Buffer
	if err := template.Must(template.New("").Parse(neighbour(t, "bystanders.yaml"))).Execute(&manifest, []string{strangers, monitoring}); err != nil {
		t.Fatal(err)
	}
	s := newScene(t)
	enforcePolicies(t)
	kubectl(t, cluster.Image.In(manifest.String()), "apply", "--server-side", "-f", "-")
	t.Cleanup(func() { kubectl(t, "", "delete", "namespace", strangers, monitoring, "--wait=false") })
	for _, namespace := range []string{strangers, monitoring} {
		kubectl(t, "", "wait", "--for=condition=Ready", "--timeout=60s", "--namespace="+namespace, "pod/bystander")
	}
	const stranger = "bystander." + strangers + ".svc:8080"
	pods, err := s.receivers(t.Context())
	if err != nil || len(pods) != 2 {
		t.Fatalf("%d receivers, %v; want 2", len(pods), err)
	}
	pod := pods[0]
	container := debug(t, pod)
	expect := func(when, namespace, pod, container string, want ...string) {
		t.Helper()
		var addresses []string
		for _, line := range want {
			addresses = append(addresses, strings.Fields(line)[0])
		}
		got := strings.TrimSpace(dial(t, namespace, pod, container, addresses...))
		t.Logf("%s, from %s/%s:\n%s", when, namespace, pod, got)
		if got != strings.Join(want, "\n") {
			t.Errorf("%s, from %s/%s: want\n%s", when, namespace, pod, strings.Join(want, "\n"))
		}
	}

	// Without policies everything is open, so that what is dropped later is dropped by them.
	ip, outside := pod.Status.PodIP+":", listen(t, s.heymarket.Address)
	expect("without policies", strangers, "bystander", "dial", ip+"8081 open", ip+"22 refused")
	expect("without policies", s.namespace, pod.Name, container, stranger+" open", outside+" open")

	addArgs(t, quickstart.System, "heymarket-operator", "--network-policies", "--network-policy-operations-from="+monitoring)
	err = quickstart.Poll(t.Context(), time.Minute, func(ctx context.Context) (bool, error) {
		_, err := cluster.RunKubectl(ctx, "", "get", "networkpolicy", quickstart.WebhookName+"-receiver", "--namespace="+s.namespace)
		return err == nil, err
	})
	if err != nil {
		t.Fatalf("the NetworkPolicy: %v", err)
	}
	before := dropped(t, s.heymarket.Address)

	// Inbound: events from anywhere, operations from monitoring and the operator alone.
	service := quickstart.WebhookName + "-receiver." + s.namespace + ".svc:80"
	expect("with policies", strangers, "bystander", "dial", service+" open", ip+"8080 open", ip+"8081 dropped", ip+"22 dropped")
	expect("with policies", monitoring, "bystander", "dial", ip+"8080 open", ip+"8081 open", ip+"22 dropped")
	// Outbound: Redis, the target, DNS, by which these names resolve; neither other Pods nor an address outside. What the node itself listens on is
	// always open to its Pods, here the API server as well.
	expect("with policies", s.namespace, pod.Name, container,
		"redis.redis.svc:6379 open", "crm."+s.namespace+".svc:8080 open", "kube-dns.kube-system.svc:53 open",
		stranger+" dropped", outside+" dropped")
	drops := dropped(t, s.heymarket.Address) - before
	t.Logf("packets dropped: %d", drops)
	if drops < 5 { // at least one for each address above
		t.Errorf("the agent counts %d dropped packets, want 5 at least", drops)
	}

	// New receivers, which open all of their connections under the policy, take events in and deliver them, and the operator can ask them.
	kubectl(t, "", "rollout", "restart", "deployment/"+quickstart.WebhookName+"-receiver", "--namespace="+s.namespace)
	kubectl(t, "", "rollout", "status", "deployment/"+quickstart.WebhookName+"-receiver", "--namespace="+s.namespace, "--timeout=120s")
	l := startLoad(t.Context(), s.heymarket)
	defer l.end()
	l.more(t, 200)
	l.allDelivered(t, s.target)
	s.awaitCondition(t, v1alpha1.ConditionDurable, metav1.ConditionTrue, v1alpha1.ReasonDurable)
	if refused := l.refusals(); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}

	// A target in a namespace that the operator has not opened: the condition reports it, and events are kept until it is opened.
	s.change(t, func(spec *v1alpha1.HeymarketWebhookSpec) {
		spec.Targets[0].URL = new("http://" + stranger + "/heymarket")
	})
	s.awaitCondition(t, v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonTargetNamespaceClosed, strangers)
	s.awaitAnswer(t, http.StatusOK, "while it is closed")
	addArgs(t, quickstart.System, "heymarket-operator", "--network-policy-target-namespaces="+strangers)
	s.awaitCondition(t, v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted)
	// Until a receiver has reloaded its configuration, it delivers to the former address.
	sent := 1
	arrived := func(ctx context.Context) (there, all int, err error) {
		here, err := s.target.Received(ctx, 0)
		if err != nil {
			return 0, 0, err
		}
		list, err := cluster.Target(strangers, "bystander").Received(ctx, 0)
		return len(list), len(here) + len(list) - l.sent(), err
	}
	there, all := 0, 0
	err = quickstart.Poll(t.Context(), 2*time.Minute, func(ctx context.Context) (bool, error) {
		answer, err := s.heymarket.Send(ctx, quickstart.Message(ids.Add(1), "once it is open"))
		if err != nil {
			return false, err
		}
		if answer.Status != http.StatusOK {
			return false, fmt.Errorf("the answer is %d %s", answer.Status, answer.Body)
		}
		sent++
		there, _, err = arrived(ctx)
		return there > 0, err
	})
	if err != nil {
		t.Fatalf("nothing arrives where it is open now: %v", err)
	}
	err = quickstart.Poll(t.Context(), time.Minute, func(ctx context.Context) (bool, error) {
		there, all, err = arrived(ctx)
		return all >= sent, err
	})
	if err != nil {
		t.Errorf("of %d events %d arrived, %d of them where it is open now: %v", sent, all, there, err)
	}
}

// listen accepts connections on the host, at the address from which it reaches the node: outside of the cluster.
func listen(t *testing.T, node string) (address string) {
	t.Helper()
	way, err := (&net.Dialer{}).DialContext(t.Context(), "udp", node+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", way.LocalAddr().(*net.UDPAddr).IP.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_ = connection.Close()
		}
	}()
	return listener.Addr().String()
}
