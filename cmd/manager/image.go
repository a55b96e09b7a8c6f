package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// containerName is the manager's container in config/manager.
const containerName = "manager"

// ownImage returns the image of this manager's container, which also contains the receiver. Reading it from the Pod
// keeps the image in one place, wherever a deployment tool replaces it.
func ownImage(ctx context.Context, cfg *rest.Config) (string, error) {
	const remedy = "set --receiver-image"
	namespace, name := os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME")
	if namespace == "" || name == "" {
		return "", errors.New("the receivers' image is unknown: " + remedy + ", or POD_NAMESPACE and POD_NAME to this Pod's")
	}
	c, err := corev1client.NewForConfig(cfg)
	if err != nil {
		return "", fmt.Errorf("make a client: %w", err)
	}
	pod, err := c.Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read Pod %s/%s, whose image receivers would run: %w; or %s", namespace, name, err, remedy)
	}
	for _, container := range pod.Spec.Containers {
		if container.Name == containerName {
			return container.Image, nil
		}
	}
	return "", fmt.Errorf("the Pod %s/%s has no container %q: %s", namespace, name, containerName, remedy)
}
