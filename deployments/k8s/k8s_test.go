package k8s_test

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// TestSelectors: what selects pods finds those that it is of, and no others.
func TestSelectors(t *testing.T) {
	t.Parallel()
	eachOverlay(t, func(t *testing.T, m *manifests) {
		for name, d := range m.deployments {
			require.Equal(t, []string{name}, m.selected(t, d.Spec.Selector))
		}
		for _, s := range m.statefulSets {
			require.Equal(t, []string{s.Name}, m.selected(t, s.Spec.Selector))
		}
		for _, s := range m.services {
			require.Equal(t, []string{s.Name}, m.selected(t, &metav1.LabelSelector{MatchLabels: s.Spec.Selector}))
			for _, port := range s.Spec.Ports {
				require.NotZero(t, containerPort(m.pods()[s.Name], port.TargetPort.StrVal), "service %s", s.Name)
			}
		}
		for _, in := range m.ingresses {
			for _, path := range in.Spec.Rules[0].HTTP.Paths {
				require.True(t, slices.ContainsFunc(m.services, func(s *corev1.Service) bool {
					return s.Name == path.Backend.Service.Name && s.Spec.Ports[0].Name == path.Backend.Service.Port.Name
				}), path.Path)
				require.NotRegexp(t, `^/(healthz|readyz|progressz|metrics)?$`, path.Path, "this is not for everybody")
			}
		}
		for _, b := range m.budgets {
			require.Equal(t, []string{b.Name}, m.selected(t, b.Spec.Selector))
			require.Equal(t, int32(1), b.Spec.MaxUnavailable.IntVal, "a node must be able to be drained, and a part to go on")
		}
		budgeted := map[string]bool{"admin": true} // one alone may go
		for _, b := range m.budgets {
			budgeted[b.Name] = true
		}
		for name := range m.parts() {
			if m.deployments[name] != nil {
				require.True(t, budgeted[name], "no PodDisruptionBudget for %s", name)
			}
		}
	})
}

// containerPort is the number of a port that a pod names.
func containerPort(pod *corev1.PodTemplateSpec, name string) int32 {
	for _, c := range pod.Spec.Containers {
		for _, port := range c.Ports {
			if port.Name == name {
				return port.ContainerPort
			}
		}
	}
	return 0
}

// TestReferences: every ConfigMap, Secret, key and account that is named is there, what is
// there is named, and the README says of each key of a Secret what belongs in it.
func TestReferences(t *testing.T) {
	t.Parallel()
	readme := readFile(t, "README.md")
	eachOverlay(t, func(t *testing.T, m *manifests) {
		held, used := map[string][]string{}, map[string][]string{}
		for name, c := range m.configMaps {
			held[name] = keys(c.Data)
		}
		for name, s := range m.secrets {
			held[name] = keys(s.Data)
		}
		for name, e := range m.externalSecrets {
			require.Equal(t, name, e.Spec.Target.Name)
			for _, d := range e.Spec.Data {
				held[name] = append(held[name], d.SecretKey)
				require.Equal(t, d.SecretKey, d.RemoteRef.Property)
				require.Equal(t, strings.Replace(name, "-", "/", 1), d.RemoteRef.Key)
			}
		}
		use := func(by, name, key string, optional *bool) {
			if optional == nil || !*optional {
				require.Contains(t, held[name], key, "%s: there is no %s in %s", by, key, name)
			}
			used[name] = append(used[name], key)
		}
		for by, pod := range m.pods() {
			for _, c := range pod.Spec.Containers {
				for _, from := range c.EnvFrom {
					require.Contains(t, held, from.ConfigMapRef.Name, by)
					used[from.ConfigMapRef.Name] = append(used[from.ConfigMapRef.Name], held[from.ConfigMapRef.Name]...)
				}
				for _, e := range c.Env {
					switch {
					case e.ValueFrom == nil:
					case e.ValueFrom.SecretKeyRef != nil:
						ref := e.ValueFrom.SecretKeyRef
						use(by, ref.Name, ref.Key, ref.Optional)
						if !strings.HasPrefix(ref.Name, "restock-owner") || ref.Key != "password" { // the laptop's own Postgres
							plain := regexp.MustCompile(`^restock-[a-z]+`).FindString(ref.Name)
							require.Contains(t, readme, "| `"+plain+"` | `"+ref.Key+"` | ", "README.md does not say what belongs in it")
						}
					case e.ValueFrom.ConfigMapKeyRef != nil:
						use(by, e.ValueFrom.ConfigMapKeyRef.Name, e.ValueFrom.ConfigMapKeyRef.Key, e.ValueFrom.ConfigMapKeyRef.Optional)
					}
				}
			}
			for _, v := range pod.Spec.Volumes {
				if v.ConfigMap != nil {
					require.Contains(t, held, v.ConfigMap.Name, by)
					used[v.ConfigMap.Name] = append(used[v.ConfigMap.Name], held[v.ConfigMap.Name]...)
				}
			}
			if account := pod.Spec.ServiceAccountName; account != "" {
				require.Contains(t, m.accounts, account)
			}
		}
		for name, all := range held {
			require.Subset(t, used[name], all, "what is in %s is not used", name)
		}
	})
}

func keys[V any](m map[string]V) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	return names
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}

// TestConfinement: no pod can be more than its program needs. The cluster refuses one that
// asks for more, by the namespace's label; the user is the image's.
func TestConfinement(t *testing.T) {
	t.Parallel()
	user := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindStringSubmatch(readFile(t, "../docker/Dockerfile"))
	require.Len(t, user, 3)
	eachOverlay(t, func(t *testing.T, m *manifests) {
		require.Len(t, m.namespaces, 1)
		require.Equal(t, "restricted", m.namespaces[0].Labels["pod-security.kubernetes.io/enforce"])
		for name, account := range m.accounts {
			require.False(t, *account.AutomountServiceAccountToken, name)
		}
		images := map[string]bool{}
		for name, pod := range m.pods() {
			spec := pod.Spec
			require.False(t, *spec.AutomountServiceAccountToken, name)
			require.True(t, *spec.SecurityContext.RunAsNonRoot, name)
			require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, spec.SecurityContext.SeccompProfile.Type, name)
			require.Len(t, spec.Containers, 1, name)
			c := spec.Containers[0]
			require.False(t, *c.SecurityContext.AllowPrivilegeEscalation, name)
			require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop, name)
			require.Empty(t, c.SecurityContext.Capabilities.Add, name)
			if c.Name != "restock" {
				continue
			}
			images[c.Image] = true
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, name)
			require.Equal(t, user[1], strconv.FormatInt(*spec.SecurityContext.RunAsUser, 10), name)
			require.Equal(t, user[2], strconv.FormatInt(*spec.SecurityContext.RunAsGroup, 10), name)
		}
		require.Len(t, images, 1, "all parts are of one image")
	})
}

// TestLife: how parts are started, asked, replaced and stopped.
func TestLife(t *testing.T) {
	t.Parallel()
	eachOverlay(t, func(t *testing.T, m *manifests) {
		for name, pod := range m.parts() {
			c := pod.Spec.Containers[0]
			limit, goLimit := c.Resources.Limits.Memory().Value(), memoryLimit(t, c)
			require.Equal(t, limit, c.Resources.Requests.Memory().Value(), "%s: memory that is not there when it is needed kills", name)
			require.Positive(t, c.Resources.Requests.Cpu().MilliValue(), name)
			require.Zero(t, c.Resources.Limits.Cpu().Value(), "%s: a limit of processor time only makes it late", name)
			require.True(t, goLimit >= limit/2 && goLimit <= limit*4/5, "%s: GOMEMLIMIT %d, limit %d", name, goLimit, limit)
			d := m.deployments[name]
			if d == nil {
				continue
			}
			require.Equal(t, "/healthz", c.StartupProbe.HTTPGet.Path)
			require.Equal(t, "/healthz", c.LivenessProbe.HTTPGet.Path, "%s: a restart mends only what does not answer", name)
			ready := "/readyz"
			if strings.HasPrefix(name, "relay-") {
				ready = "/progressz" // a relay that stands by is never ready by /readyz
				require.Equal(t, int32(2), *d.Spec.Replicas)
			}
			require.Equal(t, ready, c.ReadinessProbe.HTTPGet.Path, name)
			require.Equal(t, c.Ports[0].ContainerPort, containerPort(pod, c.ReadinessProbe.HTTPGet.Port.StrVal))
			require.Equal(t, strconv.Itoa(int(c.Ports[0].ContainerPort)), pod.Annotations["prometheus.io/port"])
			require.Zero(t, d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue(), "%s: what works stays until its successor is ready", name)

			stop := max(service.DefaultGrace, consumers.DefaultGrace, relay.DefaultStopTimeout)
			if c.Lifecycle != nil {
				stop += time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
			}
			require.Greater(t, time.Duration(*pod.Spec.TerminationGracePeriodSeconds)*time.Second, stop+10*time.Second, "%s: it is killed while it stops", name)

			require.Len(t, pod.Spec.TopologySpreadConstraints, 2)
			for _, spread := range pod.Spec.TopologySpreadConstraints {
				require.Contains(t, m.selected(t, spread.LabelSelector), name)
				require.Equal(t, []string{"app.kubernetes.io/name", "pod-template-hash"}, spread.MatchLabelKeys)
			}
		}
		require.NotNil(t, m.deployments["api"].Spec.Template.Spec.Containers[0].Lifecycle, "shoppers meet a closed door while proxies still send them")
	})
}

func memoryLimit(t *testing.T, c corev1.Container) int64 {
	t.Helper()
	for _, e := range c.Env {
		if e.Name == "GOMEMLIMIT" {
			mib, err := strconv.ParseInt(strings.TrimSuffix(e.Value, "MiB"), 10, 64)
			require.NoError(t, err)
			return mib << 20
		}
	}
	t.Fatalf("no GOMEMLIMIT in %v", c.Args)
	return 0
}

// TestScale: what is scaled says not how many it is, and is there twice at the least where
// it is not a laptop.
func TestScale(t *testing.T) {
	t.Parallel()
	eachOverlay(t, func(t *testing.T, m *manifests) {
		require.Len(t, m.autoscalers, 1)
		scaler := m.autoscalers[0].Spec
		require.Equal(t, "api", scaler.ScaleTargetRef.Name)
		require.Nil(t, m.deployments["api"].Spec.Replicas, "each apply would undo what the autoscaler did")
		production := len(m.scaledObjects) > 0
		if !production {
			return
		}
		require.GreaterOrEqual(t, *scaler.MinReplicas, int32(2))
		var scaled []string
		for _, s := range m.scaledObjects {
			consumer := strings.TrimPrefix(s.Spec.ScaleTargetRef.Name, "consume-")
			scaled = append(scaled, consumer)
			require.Nil(t, m.deployments["consume-"+consumer].Spec.Replicas)
			require.GreaterOrEqual(t, *s.Spec.MinReplicaCount, int32(2))
			require.Greater(t, *s.Spec.MaxReplicaCount, *s.Spec.MinReplicaCount)
			require.Len(t, s.Spec.Triggers, 1)
			trigger := s.Spec.Triggers[0]
			require.Equal(t, schema.QueueName(consumer), trigger.Metadata.QueueURL)
			require.Contains(t, m.authentications, trigger.AuthenticationRef.Name)
			for _, c := range m.configMaps {
				if region := c.Data["AWS_REGION"]; region != "" {
					require.Equal(t, region, trigger.Metadata.AWSRegion)
				}
			}
		}
		var all []string
		for _, in := range schema.Interests(1) {
			all = append(all, in.Consumer)
			require.Regexp(t, `:role/restock-`+in.Consumer+`$`, m.accounts["consume-"+in.Consumer].Annotations["eks.amazonaws.com/role-arn"])
		}
		require.ElementsMatch(t, all, scaled)
		require.ElementsMatch(t, all, keysWith(m.deployments, "consume-"))
	})
}

func keysWith[V any](m map[string]V, prefix string) (rest []string) {
	for name := range m {
		if after, ok := strings.CutPrefix(name, prefix); ok {
			rest = append(rest, after)
		}
	}
	return rest
}

// TestNetwork: what is not allowed is denied, and every part may do what it has to.
func TestNetwork(t *testing.T) {
	t.Parallel()
	eachOverlay(t, func(t *testing.T, m *manifests) {
		require.True(t, slices.ContainsFunc(m.policies, func(p *networkingv1.NetworkPolicy) bool {
			return len(p.Spec.PodSelector.MatchLabels) == 0 && len(p.Spec.PolicyTypes) == 2 && len(p.Spec.Ingress) == 0 && len(p.Spec.Egress) == 0
		}), "nothing denies by default")
		for name, pod := range m.parts() {
			require.True(t, m.allowed(t, pod, true, 53), name)
			require.True(t, m.allowed(t, pod, true, 5432), name)
			c := pod.Spec.Containers[0]
			outside := len(c.EnvFrom) > 0 // AWS's settings
			if len(m.externalSecrets) > 0 {
				require.Equal(t, outside, m.allowed(t, pod, true, 443), "%s: by TLS to the outside", name)
				require.False(t, m.allowed(t, pod, true, 80), "%s: the node's metadata", name)
			}
			for _, port := range c.Ports {
				require.True(t, m.allowed(t, pod, false, port.ContainerPort), "%s is not scraped", name)
			}
		}
	})
}

// allowed tells whether a policy lets a pod send to that port, or be sent to on it, from
// or to somewhere.
func (m *manifests) allowed(t *testing.T, pod *corev1.PodTemplateSpec, egress bool, port int32) bool {
	t.Helper()
	for _, p := range m.policies {
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		require.NoError(t, err)
		if !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		var rules [][]networkingv1.NetworkPolicyPort
		for _, rule := range p.Spec.Egress {
			if egress {
				rules = append(rules, rule.Ports)
			}
		}
		for _, rule := range p.Spec.Ingress {
			if !egress {
				rules = append(rules, rule.Ports)
			}
		}
		for _, ports := range rules {
			if len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal == port }) {
				return true
			}
		}
	}
	return false
}

// TestMigrateComesFirst: applied alone, what is labelled so has all that the Job needs; and
// Argo CD applies it before the rest.
func TestMigrateComesFirst(t *testing.T) {
	t.Parallel()
	eachOverlay(t, func(t *testing.T, m *manifests) {
		migrate := m.jobs[slices.IndexFunc(m.jobs, func(j *batchv1.Job) bool { return j.Name == "migrate" })]
		first := map[string]int{} // by kind and name, the wave
		note := func(kind string, o metav1.ObjectMeta) {
			if o.Labels["restock.dev/stage"] == "first" {
				wave, err := strconv.Atoi(o.Annotations["argocd.argoproj.io/sync-wave"])
				require.NoError(t, err, "%s %s", kind, o.Name)
				require.Negative(t, wave)
				first[kind+" "+o.Name] = wave
			}
		}
		for _, n := range m.namespaces {
			note("namespace", n.ObjectMeta)
		}
		for _, a := range m.accounts {
			note("account", a.ObjectMeta)
		}
		for _, s := range m.externalSecrets {
			note("secret", s.ObjectMeta)
		}
		for _, s := range m.secrets {
			first["secret "+s.Name] = -2 // of a laptop, where all is applied at once
		}
		for _, p := range m.policies {
			note("policy", p.ObjectMeta)
		}
		note("job", migrate.ObjectMeta)
		needed := []string{"namespace restock", "account " + migrate.Spec.Template.Spec.ServiceAccountName, "policy deny-all", "policy names", "policy databases"}
		for _, e := range migrate.Spec.Template.Spec.Containers[0].Env {
			if e.ValueFrom != nil {
				needed = append(needed, "secret "+e.ValueFrom.SecretKeyRef.Name)
			}
		}
		require.Contains(t, first, "job migrate")
		for _, what := range needed {
			require.Contains(t, first, what)
			require.Less(t, first[what], first["job migrate"], what)
		}
	})
}
