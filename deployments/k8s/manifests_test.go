// Package k8s_test reads what kustomize makes of the manifests, as strictly as Kubernetes
// does, and holds together what they say of each other. That the program takes what they
// give it, package cmd/restock tests.
package k8s_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// scaledObject is KEDA's, with the fields that are used here.
type scaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		PollingInterval *int32 `json:"pollingInterval"`
		MinReplicaCount *int32 `json:"minReplicaCount"`
		MaxReplicaCount *int32 `json:"maxReplicaCount"`
		Fallback        struct {
			FailureThreshold int32 `json:"failureThreshold"`
			Replicas         int32 `json:"replicas"`
		} `json:"fallback"`
		Triggers []struct {
			Type              string `json:"type"`
			AuthenticationRef struct {
				Name string `json:"name"`
			} `json:"authenticationRef"`
			Metadata struct {
				QueueURL    string `json:"queueURL"`
				QueueLength string `json:"queueLength"`
				AWSRegion   string `json:"awsRegion"`
			} `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// triggerAuthentication is KEDA's, with the fields that are used here.
type triggerAuthentication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		PodIdentity struct {
			Provider string `json:"provider"`
		} `json:"podIdentity"`
	} `json:"spec"`
}

// externalSecret is the External Secrets Operator's, with the fields that are used here.
type externalSecret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		RefreshInterval metav1.Duration `json:"refreshInterval"`
		SecretStoreRef  struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"secretStoreRef"`
		Target struct {
			Name string `json:"name"`
		} `json:"target"`
		Data []struct {
			SecretKey string `json:"secretKey"`
			RemoteRef struct {
				Key      string `json:"key"`
				Property string `json:"property"`
			} `json:"remoteRef"`
		} `json:"data"`
	} `json:"spec"`
}

// manifests are the objects of an overlay.
type manifests struct {
	namespaces      []*corev1.Namespace
	accounts        map[string]*corev1.ServiceAccount
	configMaps      map[string]*corev1.ConfigMap
	secrets         map[string]*corev1.Secret
	services        []*corev1.Service
	deployments     map[string]*appsv1.Deployment
	statefulSets    []*appsv1.StatefulSet
	jobs            []*batchv1.Job
	cronJobs        []*batchv1.CronJob
	autoscalers     []*autoscalingv2.HorizontalPodAutoscaler
	budgets         []*policyv1.PodDisruptionBudget
	policies        []*networkingv1.NetworkPolicy
	ingresses       []*networkingv1.Ingress
	scaledObjects   []*scaledObject
	authentications map[string]*triggerAuthentication
	externalSecrets map[string]*externalSecret
}

// eachOverlay runs a test on what kustomize makes of every overlay.
func eachOverlay(t *testing.T, test func(*testing.T, *manifests)) {
	t.Helper()
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("NOT RUN: deployments/k8s was not built, because there is no kubectl on the PATH")
	}
	for _, name := range []string{"local", "production"} {
		t.Run(name, func(t *testing.T) {
			built, err := exec.Command(kubectl, "kustomize", filepath.Join("overlays", name)).Output()
			require.NoError(t, err)
			test(t, read(t, string(built)))
		})
	}
}

// read refuses what Kubernetes would: kinds and fields that it does not know, and two
// objects of one name.
func read(t *testing.T, built string) *manifests {
	t.Helper()
	m := &manifests{
		accounts: map[string]*corev1.ServiceAccount{}, configMaps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{},
		deployments: map[string]*appsv1.Deployment{}, authentications: map[string]*triggerAuthentication{}, externalSecrets: map[string]*externalSecret{},
	}
	seen := map[metav1.TypeMeta]map[string]bool{}
	for document := range strings.SplitSeq(built, "\n---\n") {
		var head struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
		}
		require.NoError(t, yaml.Unmarshal([]byte(document), &head), document)
		if head.Kind != "Namespace" {
			require.Equal(t, "restock", head.Namespace, document)
		}
		require.False(t, seen[head.TypeMeta][head.Name], "two of %s %s", head.Kind, head.Name)
		if seen[head.TypeMeta] == nil {
			seen[head.TypeMeta] = map[string]bool{}
		}
		seen[head.TypeMeta][head.Name] = true
		m.add(t, head.TypeMeta, head.Name, document)
	}
	return m
}

func (m *manifests) add(t *testing.T, kind metav1.TypeMeta, name, document string) {
	t.Helper()
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 Namespace":
		m.namespaces = append(m.namespaces, strict[corev1.Namespace](t, document))
	case "v1 ServiceAccount":
		m.accounts[name] = strict[corev1.ServiceAccount](t, document)
	case "v1 ConfigMap":
		m.configMaps[name] = strict[corev1.ConfigMap](t, document)
	case "v1 Secret":
		m.secrets[name] = strict[corev1.Secret](t, document)
	case "v1 Service":
		m.services = append(m.services, strict[corev1.Service](t, document))
	case "apps/v1 Deployment":
		m.deployments[name] = strict[appsv1.Deployment](t, document)
	case "apps/v1 StatefulSet":
		m.statefulSets = append(m.statefulSets, strict[appsv1.StatefulSet](t, document))
	case "batch/v1 Job":
		m.jobs = append(m.jobs, strict[batchv1.Job](t, document))
	case "batch/v1 CronJob":
		m.cronJobs = append(m.cronJobs, strict[batchv1.CronJob](t, document))
	case "autoscaling/v2 HorizontalPodAutoscaler":
		m.autoscalers = append(m.autoscalers, strict[autoscalingv2.HorizontalPodAutoscaler](t, document))
	case "policy/v1 PodDisruptionBudget":
		m.budgets = append(m.budgets, strict[policyv1.PodDisruptionBudget](t, document))
	case "networking.k8s.io/v1 NetworkPolicy":
		m.policies = append(m.policies, strict[networkingv1.NetworkPolicy](t, document))
	case "networking.k8s.io/v1 Ingress":
		m.ingresses = append(m.ingresses, strict[networkingv1.Ingress](t, document))
	case "keda.sh/v1alpha1 ScaledObject":
		m.scaledObjects = append(m.scaledObjects, strict[scaledObject](t, document))
	case "keda.sh/v1alpha1 TriggerAuthentication":
		m.authentications[name] = strict[triggerAuthentication](t, document)
	case "external-secrets.io/v1 ExternalSecret":
		m.externalSecrets[name] = strict[externalSecret](t, document)
	default:
		t.Fatalf("no test reads a %s of %s", kind.Kind, kind.APIVersion)
	}
}

// strict refuses a field that the type does not have.
func strict[T any](t *testing.T, document string) *T {
	t.Helper()
	var object T
	require.NoError(t, yaml.UnmarshalStrict([]byte(document), &object), document)
	return &object
}

// pods are the templates of all that runs, by what runs them.
func (m *manifests) pods() map[string]*corev1.PodTemplateSpec {
	pods := map[string]*corev1.PodTemplateSpec{}
	for name, d := range m.deployments {
		pods[name] = &d.Spec.Template
	}
	for _, s := range m.statefulSets {
		pods[s.Name] = &s.Spec.Template
	}
	for _, j := range m.jobs {
		pods[j.Name] = &j.Spec.Template
	}
	for _, c := range m.cronJobs {
		pods[c.Name] = &c.Spec.JobTemplate.Spec.Template
	}
	return pods
}

// parts are the pods that run this program, without the stand-ins of a laptop.
func (m *manifests) parts() map[string]*corev1.PodTemplateSpec {
	parts := map[string]*corev1.PodTemplateSpec{}
	for name, pod := range m.pods() {
		if pod.Spec.ServiceAccountName != "" {
			parts[name] = pod
		}
	}
	return parts
}

// selected are the names of what a selector finds.
func (m *manifests) selected(t *testing.T, selector *metav1.LabelSelector) (names []string) {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(t, err)
	for name, pod := range m.pods() {
		if s.Matches(labels.Set(pod.Labels)) {
			names = append(names, name)
		}
	}
	return names
}
