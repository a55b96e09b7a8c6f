// Package image writes container images from files, without a container engine and without a registry.
//
// The archive is an OCI image layout that also carries Docker's manifest.json, so that containerd (ctr images import), Docker and Podman (load) and kind
// (load image-archive) all take it. The same input yields the same bytes: times are fixed, order is sorted, everything is owned by root.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"
)

// User is the user and group that an image runs as when its Spec names none.
const User = "65532:65532"

// Spec describes the contents of an image.
type Spec struct {
	Tag        string            // full name, registry included: heymarket.dev/operator:dev; "{digest}" in it gives way to 12 digits of the manifest's
	Entrypoint []string          // may be empty when every user of the image names a command
	User       string            // uid:gid; User when empty
	Env        []string          // NAME=value
	Files      map[string]string // path in the image → path of the regular file it is copied from; its executable bit is kept
	Gzip       bool              // compress the layer: for publishing; a local load is faster without
	// Architectures, such as amd64 and arm64, make an image index with an image for each; "{arch}" in the paths that are copied from gives way to its name.
	// None: an image of this machine's, which Docker of every kind loads; an index takes one that keeps its images in containerd.
	Architectures []string
}

// Write writes the image as a tar archive and returns its full name.
func Write(w io.Writer, spec Spec) (string, error) {
	if spec.Tag == "" || len(spec.Files) == 0 {
		return "", errors.New("an image needs a tag and at least one file")
	}
	var contents []blobbed
	var docker []any
	var root map[string]any
	if len(spec.Architectures) == 0 {
		one, err := build(spec, runtime.GOARCH)
		if err != nil {
			return "", err
		}
		contents, root = one.blobs(), one.descriptor()
		docker = []any{map[string]any{"Config": blob(one.config), "Layers": []string{blob(one.layer)}}}
	} else {
		var manifests []any
		for _, architecture := range spec.Architectures {
			one, err := build(spec, architecture)
			if err != nil {
				return "", err
			}
			contents = append(contents, one.blobs()...)
			entry := one.descriptor()
			entry["platform"] = map[string]string{"os": "linux", "architecture": architecture}
			manifests = append(manifests, entry)
		}
		index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": manifests})
		if err != nil {
			return "", err
		}
		contents, root = append(contents, blobbed{blob(index), index}), descriptor(indexType, index, nil)
	}
	name := strings.ReplaceAll(spec.Tag, "{digest}", strings.TrimPrefix(root["digest"].(string), "sha256:")[:12])
	_, tag, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	root["annotations"] = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []any{root}})
	if err != nil {
		return "", err
	}
	contents = append([]blobbed{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", index}}, contents...)
	if docker != nil {
		docker[0].(map[string]any)["RepoTags"] = []string{name}
		manifest, err := json.Marshal(docker)
		if err != nil {
			return "", err
		}
		contents = append(contents, blobbed{"manifest.json", manifest})
	}
	archive := tar.NewWriter(w)
	written := map[string]bool{}
	for _, f := range contents {
		if written[f.name] {
			continue // two images may share a layer
		}
		written[f.name] = true
		if err := add(archive, f.name, 0o644, int64(len(f.data)), bytes.NewReader(f.data)); err != nil {
			return "", err
		}
	}
	return name, archive.Close()
}

const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
)

// blobbed is a file of the archive.
type blobbed struct {
	name string
	data []byte
}

// single is an image for one architecture.
type single struct{ manifest, config, layer []byte }

func (s single) blobs() []blobbed {
	return []blobbed{{blob(s.manifest), s.manifest}, {blob(s.config), s.config}, {blob(s.layer), s.layer}}
}

func (s single) descriptor() map[string]any { return descriptor(manifestType, s.manifest, nil) }

func build(spec Spec, architecture string) (single, error) {
	files := map[string]string{}
	for path, source := range spec.Files {
		files[path] = strings.ReplaceAll(source, "{arch}", architecture)
	}
	plain, err := layer(files)
	if err != nil {
		return single{}, err
	}
	s := single{layer: plain}
	layerType := "application/vnd.oci.image.layer.v1.tar"
	if spec.Gzip {
		if s.layer, err = compress(plain); err != nil {
			return single{}, err
		}
		layerType += "+gzip"
	}
	user := spec.User
	if user == "" {
		user = User
	}
	s.config, err = json.Marshal(map[string]any{
		"created":      time.Unix(0, 0).UTC().Format(time.RFC3339),
		"architecture": architecture,
		"os":           "linux",
		"config": map[string]any{
			"User": user, "Entrypoint": spec.Entrypoint, "WorkingDir": "/",
			"Env": append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, spec.Env...),
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{digest(plain)}},
		"history": []map[string]any{{"created": time.Unix(0, 0).UTC().Format(time.RFC3339), "created_by": "hack/cluster image"}},
	})
	if err != nil {
		return single{}, err
	}
	s.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     manifestType,
		"config":        descriptor("application/vnd.oci.image.config.v1+json", s.config, nil),
		"layers":        []any{descriptor(layerType, s.layer, nil)},
	})
	return s, err
}

// Inspect reads the name of an image and the digest of its manifest from an archive that Write made.
func Inspect(file string) (tag, manifest string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	for archive := tar.NewReader(f); ; {
		header, err := archive.Next()
		if err != nil {
			return "", "", fmt.Errorf("%s is not an image archive with an index.json: %w", file, err)
		}
		if header.Name != "index.json" {
			continue
		}
		var index struct {
			Manifests []struct {
				Digest      string
				Annotations map[string]string
			}
		}
		if err := json.NewDecoder(archive).Decode(&index); err != nil || len(index.Manifests) != 1 {
			return "", "", fmt.Errorf("%s: its index.json does not name exactly one image", file)
		}
		return index.Manifests[0].Annotations["io.containerd.image.name"], index.Manifests[0].Digest, nil
	}
}

func layer(files map[string]string) ([]byte, error) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	made := map[string]bool{".": true, "/": true}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !path.IsAbs(name) {
			return nil, fmt.Errorf("%q is no absolute path for a file in an image", name)
		}
		if err := directories(archive, strings.TrimPrefix(path.Dir(name), "/"), made); err != nil {
			return nil, err
		}
		if err := copyIn(archive, strings.TrimPrefix(path.Clean(name), "/"), files[name]); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func directories(archive *tar.Writer, dir string, made map[string]bool) error {
	if dir == "" || made[dir] {
		return nil
	}
	if err := directories(archive, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
}

func copyIn(archive *tar.Writer, name, source string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", source)
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	return add(archive, name, mode, info.Size(), f)
}

func add(archive *tar.Writer, name string, mode, size int64, content io.Reader) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(archive, content)
	return err
}

func compress(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func descriptor(mediaType string, data []byte, annotations map[string]string) map[string]any {
	d := map[string]any{"mediaType": mediaType, "digest": digest(data), "size": len(data)}
	if annotations != nil {
		d["annotations"] = annotations
	}
	return d
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func blob(data []byte) string { return "blobs/sha256/" + strings.TrimPrefix(digest(data), "sha256:") }
