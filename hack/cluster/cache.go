package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"heymarket.dev/operator/hack/cluster/image"
)

// cacheDir is where binaries and images are kept. Deleting it costs time, nothing else.
func cacheDir() (string, error) {
	dir := os.Getenv("HEYMARKET_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache directory: %w; set HEYMARKET_CACHE", err)
		}
		dir = filepath.Join(base, "heymarket-operator")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w; set HEYMARKET_CACHE to one that can be written", err)
	}
	return dir, nil
}

// fingerprint is a short digest of files by their contents and of words. It is what makes a cached thing's name.
func fingerprint(files []string, words ...string) (string, error) {
	sum := sha256.New()
	for _, word := range append([]string{runtime.GOARCH}, words...) {
		fmt.Fprintf(sum, "%q\n", word)
	}
	slices.Sort(files)
	for _, file := range files {
		fmt.Fprintf(sum, "%q\n", filepath.Base(file))
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(sum, f)
		f.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// locked runs do while no other process holds the lock of that file. The kernel drops the lock with the process.
func locked(file string, waiting func(), do func() error) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		waiting()
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			return fmt.Errorf("lock %s: %w", file, err)
		}
	}
	return do()
}

// writeImage writes an image to a file, which is there whole or not at all, and returns the image's name.
func writeImage(file string, spec image.Spec) (string, error) {
	var name string
	err := atomically(file, func(f *os.File) (err error) {
		name, err = image.Write(f, spec)
		return err
	})
	return name, err
}

func atomically(file string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
