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

// Spec says what an image is made of.
type Spec struct {
	Tag        string            // full name, registry included: heymarket.dev/operator:dev; "{digest}" in it gives way to 12 digits of the manifest's
	Entrypoint []string          // may be empty when every user of the image names a command
	User       string            // uid:gid; User when empty
	Env        []string          // NAME=value
	Files      map[string]string // path in the image → path of the regular file it is copied from; its executable bit is kept
	Gzip       bool              // compress the layer: for publishing; a local load is faster without
}

// Write writes the image as a tar archive and returns its full name.
func Write(w io.Writer, spec Spec) (string, error) {
	if spec.Tag == "" || len(spec.Files) == 0 {
		return "", errors.New("an image needs a tag and at least one file")
	}
	plain, err := layer(spec.Files)
	if err != nil {
		return "", err
	}
	stored, layerType := plain, "application/vnd.oci.image.layer.v1.tar"
	if spec.Gzip {
		if stored, err = compress(plain); err != nil {
			return "", err
		}
		layerType += "+gzip"
	}
	user := spec.User
	if user == "" {
		user = User
	}
	config, err := json.Marshal(map[string]any{
		"created":      time.Unix(0, 0).UTC().Format(time.RFC3339),
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": map[string]any{
			"User": user, "Entrypoint": spec.Entrypoint, "WorkingDir": "/",
			"Env": append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, spec.Env...),
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{digest(plain)}},
		"history": []map[string]any{{"created": time.Unix(0, 0).UTC().Format(time.RFC3339), "created_by": "hack/cluster image"}},
	})
	if err != nil {
		return "", err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        descriptor("application/vnd.oci.image.config.v1+json", config, nil),
		"layers":        []any{descriptor(layerType, stored, nil)},
	})
	if err != nil {
		return "", err
	}
	name := strings.ReplaceAll(spec.Tag, "{digest}", strings.TrimPrefix(digest(manifest), "sha256:")[:12])
	_, tag, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.index.v1+json",
		"manifests": []any{descriptor("application/vnd.oci.image.manifest.v1+json", manifest, map[string]string{
			"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag,
		})},
	})
	if err != nil {
		return "", err
	}
	docker, err := json.Marshal([]any{map[string]any{"Config": blob(config), "RepoTags": []string{name}, "Layers": []string{blob(stored)}}})
	if err != nil {
		return "", err
	}
	archive := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", index},
		{"manifest.json", docker},
		{blob(manifest), manifest},
		{blob(config), config},
		{blob(stored), stored},
	} {
		if err := add(archive, f.name, 0o644, int64(len(f.data)), bytes.NewReader(f.data)); err != nil {
			return "", err
		}
	}
	return name, archive.Close()
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
