package main

import (
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"heymarket.dev/operator/hack/cluster/image"
)

// redisImage packs Debian's redis-server with the libraries that it is linked to. The program is in the package redis-tools, which, unlike
// redis-server, starts no service on the host.
func redisImage(ctx context.Context) (string, error) {
	if err := install(ctx, map[string]string{"redis-check-rdb": "redis-tools"}); err != nil {
		return "", err
	}
	files := map[string]string{}
	for to, from := range map[string]string{"/usr/bin/redis-server": "/usr/bin/redis-check-rdb", "/usr/bin/redis-cli": "/usr/bin/redis-cli"} {
		if err := withLibraries(files, to, from); err != nil {
			return "", fmt.Errorf("make the image of redis: %w; `apt-get install --reinstall redis-tools` repairs it", err)
		}
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	hash, err := fingerprint(slices.Collect(maps.Values(files)), slices.Sorted(maps.Keys(files))...)
	if err != nil {
		return "", err
	}
	archive := filepath.Join(cache, "redis-"+hash+".tar")
	if exists(archive) {
		return archive, nil
	}
	// No entrypoint: a Pod sets whether it runs redis-server or redis-cli.
	_, err = writeImage(archive, image.Spec{Tag: imageName("redis"), Files: files})
	return archive, err
}

// withLibraries adds a program, its loader and every library that it needs, at the paths where the loader looks for them.
func withLibraries(files map[string]string, to, from string) error {
	if files[to] != "" {
		return nil
	}
	program, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	files[to] = program
	f, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	defer f.Close()
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP {
			name := make([]byte, segment.Filesz-1)
			if _, err := segment.ReadAt(name, 0); err != nil {
				return fmt.Errorf("%s: %w", program, err)
			}
			if err := withLibraries(files, string(name), string(name)); err != nil {
				return err
			}
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	for _, library := range needed {
		path, err := findLibrary(library)
		if err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		if err := withLibraries(files, path, path); err != nil {
			return err
		}
	}
	return nil
}

func findLibrary(name string) (string, error) {
	for _, pattern := range []string{"/lib/*-linux-gnu/", "/usr/lib/*-linux-gnu/", "/lib64/", "/lib/"} {
		if found, err := filepath.Glob(pattern + name); err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("library %s: %w", name, fs.ErrNotExist)
}
