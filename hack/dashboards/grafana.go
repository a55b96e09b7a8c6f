package main

// The parts of Grafana's dashboard model (schema version 39) that are used here, in the order in which Grafana writes them.

type dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Editable      bool       `json:"editable"`
	Refresh       string     `json:"refresh"`
	Time          timeRange  `json:"time"`
	Links         []link     `json:"links"`
	Templating    templating `json:"templating"`
	Panels        []panel    `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type link struct {
	Title string   `json:"title"`
	Type  string   `json:"type"`
	Tags  []string `json:"tags"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	Name       string  `json:"name"`
	Label      string  `json:"label"`
	Type       string  `json:"type"`
	Datasource *source `json:"datasource,omitempty"`
	Query      string  `json:"query"`
	Refresh    int     `json:"refresh,omitempty"`
	IncludeAll bool    `json:"includeAll,omitempty"`
	Multi      bool    `json:"multi,omitempty"`
	AllValue   string  `json:"allValue,omitempty"`
}

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int            `json:"id"`
	Type        string         `json:"type"`
	Title       string         `json:"title"`
	Description string         `json:"description"`
	Datasource  source         `json:"datasource"`
	GridPos     grid           `json:"gridPos"`
	FieldConfig fieldConfig    `json:"fieldConfig"`
	Options     map[string]any `json:"options"`
	Targets     []query        `json:"targets"`
}

// grid is a place on a board of 24 columns.
type grid struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []any         `json:"overrides"`
}

type fieldDefaults struct {
	Unit       string         `json:"unit"`
	Min        *int           `json:"min,omitempty"`
	Mappings   []mapping      `json:"mappings,omitempty"`
	Thresholds *thresholds    `json:"thresholds,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
}

type mapping struct {
	Type    string            `json:"type"`
	Options map[string]result `json:"options"`
}

type result struct {
	Text  string `json:"text"`
	Color string `json:"color"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

// step begins at a value; the first one, without a value, reaches down to nothing.
type step struct {
	Color string `json:"color"`
	Value *int   `json:"value"`
}

type query struct {
	RefID        string `json:"refId"`
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat,omitempty"`
}

var prometheus = source{Type: "prometheus", UID: "${datasource}"}

func datasourceVariable() variable {
	return variable{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus"}
}

// choice is a variable with the values of a label, of which any number can be picked.
func choice(name, label, expr string) variable {
	return variable{
		Name: name, Label: label, Type: "query", Datasource: &prometheus, Query: "label_values(" + expr + ", " + name + ")",
		Refresh: 2, IncludeAll: true, Multi: true, AllValue: ".*",
	}
}

// board is a dashboard of statistics in rows of six, and below them graphs in rows of two.
func board(uid, title, description string, variables []variable, stats, graphs []panel) dashboard {
	const columns, statHeight, graphHeight, statsInRow, graphsInRow = 24, 4, 8, 6, 2
	d := dashboard{
		UID: uid, Title: title, Description: description, Tags: []string{"heymarket"}, SchemaVersion: 39, Editable: true, Refresh: "30s",
		Time:       timeRange{From: "now-6h", To: "now"},
		Links:      []link{{Title: "Heymarket", Type: "dashboards", Tags: []string{"heymarket"}}},
		Templating: templating{List: variables},
	}
	add := func(p panel, place grid) {
		p.ID, p.Datasource, p.GridPos = len(d.Panels)+1, prometheus, place
		d.Panels = append(d.Panels, p)
	}
	for i, p := range stats {
		add(p, grid{X: i % statsInRow * columns / statsInRow, Y: i / statsInRow * statHeight, W: columns / statsInRow, H: statHeight})
	}
	top := (len(stats) + statsInRow - 1) / statsInRow * statHeight
	for i, p := range graphs {
		add(p, grid{X: i % graphsInRow * columns / graphsInRow, Y: top + i/graphsInRow*graphHeight, W: columns / graphsInRow, H: graphHeight})
	}
	return d
}

// stat is one figure, which is coloured from a value on; 0 colours it never.
func stat(title, description, expr, color string, from int) panel {
	steps := []step{{Color: "green"}}
	if from > 0 {
		steps = append(steps, step{Color: color, Value: &from})
	}
	return panel{
		Type: "stat", Title: title, Description: description,
		FieldConfig: fieldConfig{Defaults: fieldDefaults{Unit: "short", Thresholds: &thresholds{Mode: "absolute", Steps: steps}}, Overrides: []any{}},
		Options:     map[string]any{"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}}, "colorMode": "value"},
		Targets:     []query{{RefID: "A", Expr: expr}},
	}
}

// verdict is a figure that is 1 or 0, displayed as a word.
func verdict(title, description, expr, good, bad string) panel {
	p := stat(title, description, expr, "", 0)
	p.FieldConfig.Defaults.Mappings = []mapping{{Type: "value", Options: map[string]result{"1": {Text: good, Color: "green"}, "0": {Text: bad, Color: "red"}}}}
	return p
}

// graph draws queries over time.
func graph(title, description, unit string, queries ...query) panel {
	zero := 0
	for i := range queries {
		queries[i].RefID = string(rune('A' + i))
	}
	return panel{
		Type: "timeseries", Title: title, Description: description,
		FieldConfig: fieldConfig{Defaults: fieldDefaults{Unit: unit, Min: &zero, Custom: map[string]any{"fillOpacity": 10}}, Overrides: []any{}},
		Options:     map[string]any{"legend": map[string]any{"displayMode": "list", "placement": "bottom"}, "tooltip": map[string]any{"mode": "multi"}},
		Targets:     queries,
	}
}

// line is a query with what its lines are called.
func line(legend, expr string) query { return query{Expr: expr, LegendFormat: legend} }
