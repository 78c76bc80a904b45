package main

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

const k8sDir = "../../deployments/k8s"

// object is what is looked at here of a Kubernetes object; a test beside the manifests
// reads all of it.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Replicas    *int
		Template    podTemplate
		JobTemplate struct {
			Spec struct{ Template podTemplate }
		}
		Data []struct{ SecretKey string } // of an ExternalSecret
	}
}

type podTemplate struct {
	Spec struct{ Containers []k8sContainer }
}

type k8sContainer struct {
	Image string
	Args  []string
	Env   []struct {
		Name, Value string
		ValueFrom   struct{ SecretKeyRef, ConfigMapKeyRef *keyRef }
	}
	EnvFrom []struct{ ConfigMapRef struct{ Name string } }
	Ports   []struct {
		Name          string
		ContainerPort int
	}
	StartupProbe, LivenessProbe, ReadinessProbe *struct {
		HTTPGet struct{ Path, Port string }
	}
}

type keyRef struct {
	Name, Key string
	Optional  bool
}

// overlay is what kustomize makes of one.
type overlay struct {
	parts    map[string]part
	replicas map[string]int
	data     map[string]map[string]string // of ConfigMaps and Secrets
}

func kustomized(t *testing.T, name string) overlay {
	t.Helper()
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("NOT RUN: deployments/k8s was not built, because there is no kubectl on the PATH")
	}
	built, err := exec.Command(kubectl, "kustomize", filepath.Join(k8sDir, "overlays", name)).Output()
	require.NoError(t, err)
	o := overlay{parts: map[string]part{}, replicas: map[string]int{}, data: map[string]map[string]string{}}
	var objects []object
	for document := range strings.SplitSeq(string(built), "\n---\n") {
		var obj object
		require.NoError(t, yaml.Unmarshal([]byte(document), &obj))
		objects = append(objects, obj)
		o.add(t, obj)
	}
	for _, obj := range objects {
		for _, c := range slices.Concat(obj.Spec.Template.Spec.Containers, obj.Spec.JobTemplate.Spec.Template.Spec.Containers) {
			if name, _, _ := strings.Cut(filepath.Base(c.Image), ":"); name == "restock" {
				o.parts[obj.Metadata.Name] = o.part(t, c)
			}
		}
		if n := obj.Spec.Replicas; n != nil {
			o.replicas[obj.Metadata.Name] = *n
		}
	}
	require.GreaterOrEqual(t, len(o.parts), 10)
	return o
}

// add notes what a ConfigMap or a Secret holds. Of one that is kept elsewhere only the
// keys are known.
func (o overlay) add(t *testing.T, obj object) {
	t.Helper()
	switch obj.Kind {
	case "ConfigMap":
		o.data[obj.Metadata.Name] = obj.Data
	case "Secret":
		held := map[string]string{}
		for key, value := range obj.Data {
			plain, err := base64.StdEncoding.DecodeString(value)
			require.NoError(t, err)
			held[key] = string(plain)
		}
		o.data[obj.Metadata.Name] = held
	case "ExternalSecret":
		held := map[string]string{}
		for _, d := range obj.Spec.Data {
			held[d.SecretKey] = ""
		}
		o.data[obj.Metadata.Name] = held
	}
}

// part is a container with its environment as the kubelet would make it.
func (o overlay) part(t *testing.T, c k8sContainer) part {
	t.Helper()
	p := part{args: c.Args, env: map[string]string{}}
	for _, from := range c.EnvFrom {
		require.Contains(t, o.data, from.ConfigMapRef.Name)
		maps.Copy(p.env, o.data[from.ConfigMapRef.Name])
	}
	for _, e := range c.Env {
		value, is := e.Value, true
		for _, ref := range []*keyRef{e.ValueFrom.SecretKeyRef, e.ValueFrom.ConfigMapKeyRef} {
			if ref != nil {
				value, is = o.data[ref.Name][ref.Key]
				require.True(t, is || ref.Optional, "%s: there is no %s in %s", e.Name, ref.Key, ref.Name)
			}
		}
		if is {
			p.env[e.Name] = value
		}
	}
	ports := map[string]int{}
	for _, port := range c.Ports {
		ports[port.Name] = port.ContainerPort
	}
	for _, probe := range []*struct{ HTTPGet struct{ Path, Port string } }{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if probe != nil {
			require.Contains(t, ports, probe.HTTPGet.Port)
			p.probes = append(p.probes, fmt.Sprintf("http://127.0.0.1:%d%s", ports[probe.HTTPGet.Port], probe.HTTPGet.Path))
		}
	}
	return p
}

// TestK8sSaysWhatTheProgramKnows: every command line parses, every variable is one that the
// command reads, and what production runs is what the story is played with.
func TestK8sSaysWhatTheProgramKnows(t *testing.T) {
	t.Parallel()
	local, production := kustomized(t, "local"), kustomized(t, "production")
	for name, p := range local.parts {
		p.known(t, name)
	}
	for name, p := range production.parts {
		p.known(t, name)
		played := local.parts[name]
		require.Equal(t, played.args, p.args)
		require.Equal(t, played.probes, p.probes)
		for variable := range p.env {
			if variable != "RESTOCK_SES_CONFIGURATION_SET" { // the stand-in has none
				require.Contains(t, played.env, variable, name)
			}
		}
	}
}

// TestK8s starts each pod by hand with exactly the command and environment that the local
// overlay has, but for the addresses, asks what its probes ask, and plays the story. Then
// the relay that streams is evicted, and the one that stands by goes on.
func TestK8s(t *testing.T) {
	t.Parallel()
	o := kustomized(t, "local")
	var sql map[string]string
	for _, held := range o.data {
		if held["furnish.sql"] != "" {
			sql = held
		}
	}
	require.Equal(t, composeFile(t, "furnish.sql"), sql["furnish.sql"], "deployments/k8s/overlays/local has a copy of it")
	s := startByHand(t, o.parts, sql["databases.sql"], sql["furnish.sql"])
	running := map[string]*process{}
	for _, name := range []string{"localaws", "factory", "marketing", "api", "relay-store", "relay-customers",
		"consume-factory", "consume-ads", "consume-vip", "consume-marketing", "admin"} {
		running[name] = s.launch(name, name)
	}
	s.once("maintain")
	require.Len(t, o.parts, len(running)+2, "a part is not started")

	// By now the first of each streams. Its twin is ready all the same: an update waits for that.
	for _, name := range []string{"relay-store", "relay-customers"} {
		require.Equal(t, 2, o.replicas[name])
		s.eventually(strings.TrimPrefix(name, "relay-"), `SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming' AND application_name = 'restock_`+strings.TrimPrefix(name, "relay-")+`'`)
		running[name+"-twin"] = s.launch(name, name+"-twin")
		require.Equal(t, http.StatusServiceUnavailable, s.probe(name+"-twin", "http://127.0.0.1:8081/readyz"), "two relays of one slot are active")
	}
	s.story()
	s.watched()

	require.Zero(t, running["relay-store"].stop())
	require.Equal(t, http.StatusOK, s.buy(`{"sku":"CP-502102","quantity":1}`))
	s.eventually("store", `SELECT count(*) = 5 FROM ledger WHERE outcome = 'published'`)
	delete(running, "relay-store")
	for name, p := range running {
		require.Zero(t, p.stop(), name)
	}
}
