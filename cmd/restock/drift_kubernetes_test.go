package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// podContainer is a container of a pod, or a part of one in a patch.
type podContainer struct {
	Name, Image   string
	Command, Args []string
	Env           []struct{ Name, Value string }
	EnvFrom       []any
	Ports         []struct {
		Name          string
		ContainerPort json.Number
	}
	LivenessProbe, ReadinessProbe, StartupProbe podProbe
}

type podProbe struct {
	HTTPGet struct {
		Path string
		Port any // a number, or a port's name
	}
	Exec struct{ Command []string }
}

// startedByKubernetes finds every container of this program in a file, whatever runs it.
// What a patch adds to one is held against all commands by its names alone.
func startedByKubernetes(t *testing.T, text []byte, k known, complain func(string, ...any)) (all []started) {
	t.Helper()
	for _, document := range regexp.MustCompile(`(?m)^---.*$`).Split(string(text), -1) {
		var object any
		require.NoError(t, yaml.Unmarshal([]byte(document), &object))
		for _, c := range containersWithin(t, object) {
			if s, ours := c.started(k, complain); ours {
				all = append(all, s)
			}
		}
	}
	return all
}

// containersWithin are those of every list of containers, however deep.
func containersWithin(t *testing.T, value any) (all []podContainer) {
	t.Helper()
	switch value := value.(type) {
	case []any:
		for _, one := range value {
			all = append(all, containersWithin(t, one)...)
		}
	case map[string]any:
		for key, below := range value {
			if list, is := below.([]any); is && (key == "containers" || key == "initContainers") {
				text, err := json.Marshal(list)
				require.NoError(t, err)
				var containers []podContainer
				decoder := json.NewDecoder(bytes.NewReader(text))
				decoder.UseNumber()
				require.NoError(t, decoder.Decode(&containers))
				all = append(all, containers...)
				continue
			}
			all = append(all, containersWithin(t, below)...)
		}
	}
	return all
}

// started is the container as the program is started in it. One without an image, which a
// patch gives it, is ours by its name. Not ours are those of other images, and patches that
// leave the command as it is.
func (c podContainer) started(k known, complain func(string, ...any)) (s started, ours bool) {
	s = started{name: c.Name, args: c.Args, environment: map[string]string{}}
	if len(c.Command) > 0 {
		s.args = slices.Concat(c.Command[1:], c.Args)
	}
	image := regexp.MustCompile(`[:@].*$`).ReplaceAllString(c.Image[strings.LastIndex(c.Image, "/")+1:], "")
	if image != "restock" && (image != "" || c.Name != "restock") || len(s.args) == 0 {
		return s, false
	}
	for _, variable := range c.Env {
		s.environment[variable.Name] = variable.Value
	}
	if len(c.EnvFrom) > 0 { // what that holds is elsewhere: nothing that is required can be missed here
		for _, variable := range k.requiredBy(s.args) {
			s.environment[variable] = ""
		}
	}
	named := map[any]string{}
	for _, p := range c.Ports {
		port := p.ContainerPort.String()
		s.ports, named[p.Name], named[p.ContainerPort] = append(s.ports, port), port, port
	}
	for _, p := range []podProbe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if at := p.HTTPGet; at.Path != "" {
			port, opened := named[at.Port]
			if !opened {
				complain("%s: a probe asks port %v, which the container does not open", c.Name, at.Port)
				continue
			}
			s.probes = append(s.probes, probe{port, at.Path})
		}
		if command := p.Exec.Command; len(command) > 0 {
			s.probes = append(s.probes, probesOf(command)...)
			if _, complaint := k.traced(command[1:]); complaint != "" {
				complain("%s: %s", c.Name, complaint)
			}
		}
	}
	return s, true
}

// requiredBy are the variables without which a command does not run.
func (k known) requiredBy(args []string) (names []string) {
	kctx, complaint := k.traced(args)
	if complaint != "" {
		return nil
	}
	for _, flag := range kctx.Flags() {
		if flag.Required {
			names = append(names, flag.Envs...)
		}
	}
	return names
}
