#!/usr/bin/env bash
# Writes the derived files of the chart: the CRD and the roles, which are copies of config/, the dashboards, the table of values
# in its README, and the goldens of its rendering. Like hack/generate.sh, which calls it, it reads only the tree in which it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

chart=charts/heymarket-operator
mkdir -p "$chart/files/crds" "$chart/files/rbac"
# A removed kind must not stay in the chart.
rm -f "$chart"/files/crds/*.yaml
cp config/crd/heymarket.dev_*.yaml "$chart/files/crds/"
# The templates take the rules from these files and everything else, such as names and namespaces, from the values.
cp config/rbac/role.yaml config/rbac/user_roles.yaml "$chart/files/rbac/"

# Templates cannot read values.yaml itself.
cp "$chart/values.yaml" "$chart/files/values.yaml"

mkdir -p "$chart/files/dashboards"
rm -f "$chart"/files/dashboards/*.json
go -C hack run ./dashboards "$PWD/$chart/files/dashboards"

go -C test test ./surface/chart -count=1 -run '^(TestReadme|TestGolden)$' -update
