package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func sample(t *testing.T, gz bool) Spec {
	t.Helper()
	dir := t.TempDir()
	program, list := filepath.Join(dir, "program"), filepath.Join(dir, "list")
	if err := os.WriteFile(program, []byte("\x7fELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, []byte("roots"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(program, time.Now(), time.Now().Add(time.Duration(os.Getpid())*time.Second)); err != nil {
		t.Fatal(err)
	}
	return Spec{Tag: "heymarket.dev/sample:dev-{digest}", Entrypoint: []string{"/program"}, Files: map[string]string{"/program": program, "/etc/ssl/list": list}, Gzip: gz}
}

func TestWriteIsReproducible(t *testing.T) {
	t.Parallel()
	for _, gz := range []bool{false, true} {
		var first, second bytes.Buffer
		one, err := Write(&first, sample(t, gz))
		if err != nil {
			t.Fatal(err)
		}
		two, err := Write(&second, sample(t, gz))
		if err != nil {
			t.Fatal(err)
		}
		if one != two || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("gzip %v: the same files gave %s and %s", gz, one, two)
		}
	}
}

func TestInspectReadsWhatWriteWrote(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sample.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Write(f, sample(t, false))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	name, digest, err := Inspect(file)
	if err != nil || name != want {
		t.Errorf("Inspect = %q, %v; want %q", name, err, want)
	}
	if short := strings.TrimPrefix(digest, "sha256:")[:12]; name != "heymarket.dev/sample:dev-"+short {
		t.Errorf("name %q does not end with the digest %s", name, digest)
	}
}

// An index names an image for each architecture, built from the files for it; shared content is stored once, and nothing is
// missing.
func TestWriteForSeveralArchitectures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, architecture := range []string{"amd64", "arm64"} {
		if err := os.WriteFile(filepath.Join(dir, architecture), []byte("program for "+architecture), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	spec := Spec{Tag: "heymarket.dev/sample:1", Files: map[string]string{"/program": filepath.Join(dir, "{arch}")}, Gzip: true, Architectures: []string{"amd64", "arm64"}}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if name, err := Write(out, spec); err != nil || name != "heymarket.dev/sample:1" {
			t.Fatalf("name %q, %v", name, err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same files gave two different archives")
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(&first); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
	type entry struct {
		Digest   string
		Size     int
		Platform struct{ OS, Architecture string }
	}
	type list struct {
		Manifests, Layers []entry
		Config            entry
	}
	open := func(e entry, into any) []byte {
		t.Helper()
		data, there := files["blobs/sha256/"+strings.TrimPrefix(e.Digest, "sha256:")]
		if !there || len(data) != e.Size || digest(data) != e.Digest {
			t.Fatalf("%s is named, and there are %d bytes of it", e.Digest, len(data))
		}
		if into != nil {
			if err := json.Unmarshal(data, into); err != nil {
				t.Fatal(err)
			}
		}
		return data
	}
	var root, index list
	if err := json.Unmarshal(files["index.json"], &root); err != nil || len(root.Manifests) != 1 {
		t.Fatalf("index.json names %d, %v", len(root.Manifests), err)
	}
	open(root.Manifests[0], &index)
	if len(index.Manifests) != 2 {
		t.Fatalf("the index names %d images", len(index.Manifests))
	}
	for _, image := range index.Manifests {
		var manifest list
		open(image, &manifest)
		var config struct {
			Architecture string
			Config       struct{ User string }
		}
		open(manifest.Config, &config)
		if image.Platform.OS != "linux" || config.Architecture != image.Platform.Architecture || config.Config.User != User {
			t.Errorf("the image for %+v has the configuration %+v", image.Platform, config)
		}
		unpacked, err := gzip.NewReader(bytes.NewReader(open(manifest.Layers[0], nil)))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(unpacked); err != nil || !bytes.Contains(text, []byte("program for "+image.Platform.Architecture)) {
			t.Errorf("the image for %s holds another program, %v", image.Platform.Architecture, err)
		}
	}
}

func TestInspectNamesTheFileThatIsNoImage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "other.tar")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Inspect(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error = %v, want one that names %s", err, file)
	}
}

func TestLayerIsSortedOwnedByRootAndTimeless(t *testing.T) {
	t.Parallel()
	data, err := layer(sample(t, false).Files)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for archive := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
		if header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s: uid %d, gid %d, time %s", header.Name, header.Uid, header.Gid, header.ModTime)
		}
		if executable := header.Mode&0o111 != 0; executable != (header.Name == "program" || header.Typeflag == tar.TypeDir) {
			t.Errorf("%s: mode %o", header.Name, header.Mode)
		}
	}
	if got, want := strings.Join(names, " "), "etc/ etc/ssl/ etc/ssl/list program"; got != want {
		t.Errorf("entries %q, want %q", got, want)
	}
}

func TestWriteRefusesWhatIsNoImage(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]Spec{
		"no tag":        {Files: map[string]string{"/a": "/etc/hostname"}},
		"no files":      {Tag: "a:b"},
		"relative path": {Tag: "a:b", Files: map[string]string{"a": "/etc/hostname"}},
		"missing file":  {Tag: "a:b", Files: map[string]string{"/a": filepath.Join(t.TempDir(), "none")}},
		"a directory":   {Tag: "a:b", Files: map[string]string{"/a": t.TempDir()}},
	} {
		if _, err := Write(io.Discard, spec); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
