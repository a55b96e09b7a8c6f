// Package chart holds the tests of charts/heymarket-operator: what it renders, what it refuses, and that it installs what config/ installs.
package chart
