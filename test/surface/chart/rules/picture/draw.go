package main

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"regexp"
	"time"

	"github.com/prometheus/prometheus/promql"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"heymarket.dev/operator/test/surface/chart/rules/live"
)

// A cell of Grafana's grid, of which there are 24 in a row, and what a panel keeps clear of its edges.
const (
	cellWidth  = 1.6 * vg.Centimeter
	cellHeight = 0.95 * vg.Centimeter
	margin     = 0.15 * vg.Centimeter
	columns    = 24
)

var errEmpty = errors.New("it shows nothing")

// lines are series over minutes since the load began.
type lines []series

type series struct {
	labels map[string]string
	points plotter.XYs
}

func asLines(matrix promql.Matrix, from time.Time) lines {
	var all lines
	for _, s := range matrix {
		one := series{labels: s.Metric.Map()}
		for _, p := range s.Floats {
			if !math.IsNaN(p.F) && !math.IsInf(p.F, 0) {
				one.points = append(one.points, plotter.XY{X: time.UnixMilli(p.T).Sub(from).Minutes(), Y: p.F})
			}
		}
		if len(one.points) > 0 {
			all = append(all, one)
		}
	}
	return all
}

// drawBoard draws every panel where it stands on the dashboard.
func drawBoard(board live.Dashboard, ask func(expr string) (lines, error)) (*vgimg.Canvas, error) {
	rows := 0
	for _, p := range board.Panels {
		rows = max(rows, p.GridPos.Y+p.GridPos.H)
	}
	height := vg.Length(rows)*cellHeight + 2*margin
	canvas := vgimg.New(columns*cellWidth+2*margin, height)
	for _, p := range board.Panels {
		left, top := margin+vg.Length(p.GridPos.X)*cellWidth, height-margin-vg.Length(p.GridPos.Y)*cellHeight
		area := draw.Canvas{Canvas: canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: left + margin, Y: top - vg.Length(p.GridPos.H)*cellHeight + margin},
			Max: vg.Point{X: left + vg.Length(p.GridPos.W)*cellWidth - margin, Y: top - margin},
		}}
		area.SetColor(color.Gray{Y: 200})
		area.Stroke(outline(area.Rectangle))
		var err error
		if p.Type == "stat" {
			err = drawStat(area, p, ask)
		} else {
			err = drawGraph(area, p, ask)
		}
		if err != nil {
			return nil, fmt.Errorf("panel %q: %w", p.Title, err)
		}
	}
	return canvas, nil
}

func outline(r vg.Rectangle) vg.Path {
	var p vg.Path
	p.Move(r.Min)
	p.Line(vg.Point{X: r.Max.X, Y: r.Min.Y})
	p.Line(r.Max)
	p.Line(vg.Point{X: r.Min.X, Y: r.Max.Y})
	p.Close()
	return p
}

func style(size vg.Length) text.Style {
	face := plot.DefaultFont
	face.Variant = "Sans"
	face.Size = size
	return text.Style{Color: color.Black, Font: face, Handler: text.Plain{Fonts: font.DefaultCache}, XAlign: draw.XCenter, YAlign: draw.YCenter}
}

// drawStat writes a panel's last figure, by the word that stands for it if there is one.
func drawStat(area draw.Canvas, p live.Panel, ask func(string) (lines, error)) error {
	answer, err := ask(p.Targets[0].Expr)
	if err != nil {
		return err
	}
	if len(answer) == 0 {
		return errEmpty
	}
	says := fmt.Sprintf("%.4g", answer[0].points[len(answer[0].points)-1].Y)
	for _, mapping := range p.FieldConfig.Defaults.Mappings {
		if word, there := mapping.Options[says]; there {
			says = word.Text
		}
	}
	middle := vg.Point{X: (area.Min.X + area.Max.X) / 2, Y: (area.Min.Y + area.Max.Y) / 2}
	area.FillText(style(26), vg.Point{X: middle.X, Y: middle.Y - 8}, says)
	area.FillText(style(11), vg.Point{X: middle.X, Y: area.Max.Y - 12}, p.Title)
	return nil
}

// drawGraph draws all series of a panel's queries.
func drawGraph(area draw.Canvas, p live.Panel, ask func(string) (lines, error)) error {
	chart := plot.New()
	chart.Title.Text = p.Title
	chart.X.Label.Text = "minutes"
	chart.Y.Label.Text = map[string]string{"reqps": "a second", "s": "seconds"}[p.FieldConfig.Defaults.Unit]
	chart.Y.Min = 0
	chart.Legend.Top, chart.Legend.Left = true, true
	chart.Legend.TextStyle.Font.Size = 8
	chart.Legend.Padding = vg.Points(2)
	drawn := 0
	for _, query := range p.Targets {
		answer, err := ask(query.Expr)
		if err != nil {
			return err
		}
		if len(answer) == 0 {
			return fmt.Errorf("%w: %s", errEmpty, query.Expr)
		}
		for _, s := range answer {
			l, err := plotter.NewLine(s.points)
			if err != nil {
				return err
			}
			l.Color, l.Width = plotutil.Color(drawn), vg.Points(1.4)
			chart.Add(l)
			chart.Legend.Add(legend(query.LegendFormat, s.labels), l)
			drawn++
		}
	}
	chart.Y.Max *= 1.35 // room for the legend
	inner := draw.Crop(area, 6, -6, 6, -6)
	chart.Draw(inner)
	return nil
}

var placeholder = regexp.MustCompile(`{{(\w+)}}`)

// legend puts a series's labels into Grafana's format of a legend.
func legend(format string, labels map[string]string) string {
	return placeholder.ReplaceAllStringFunc(format, func(s string) string { return labels[s[2:len(s)-2]] })
}
