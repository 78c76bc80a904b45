package main

import (
	"errors"
	"runtime/debug"
)

type versionCommand struct {
	SBOM bool `name:"sbom" help:"Print what this program is built from, as a CycloneDX 1.5 bill of materials."`
}

// Run prints what the linker wrote into this program.
func (c *versionCommand) Run(inv *invocation) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("this program was built without its build information")
	}
	if c.SBOM {
		return printJSON(inv.stdout, billOfMaterials(info))
	}
	say(inv.stdout, "restock %s %s\n", version(info), info.GoVersion)
	return nil
}

// version is the module's, or else the commit.
func version(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "(devel)"
}

// bill is a bill of materials, https://cyclonedx.org/docs/1.5/json/. It holds no time and
// no serial number, so that the same program has the same.
type bill struct {
	Format      string       `json:"bomFormat"`
	SpecVersion string       `json:"specVersion"`
	Version     int          `json:"version"`
	Metadata    billMetadata `json:"metadata"`
	Components  []component  `json:"components"`
}

type billMetadata struct {
	Component component `json:"component"`
}

type component struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	URL     string `json:"purl,omitempty"`
}

func billOfMaterials(info *debug.BuildInfo) bill {
	b := bill{Format: "CycloneDX", SpecVersion: "1.5", Version: 1, Components: []component{{Type: "library", Name: "std", Version: info.GoVersion}}}
	b.Metadata.Component = component{Type: "application", Name: info.Main.Path, Version: version(info)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.Components = append(b.Components, component{Type: "library", Name: m.Path, Version: m.Version, URL: "pkg:golang/" + m.Path + "@" + m.Version})
	}
	return b
}
