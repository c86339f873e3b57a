package report

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// Line of a chart. A NaN as Y breaks it: there nothing was measured.
type Line struct {
	Name   string
	Points []Point
	// Dots draws each point too.
	Dots bool
}

// Point of a line.
type Point struct{ X, Y float64 }

// Bar is an interval in a row of a chart: that of its Series.
type Bar struct {
	From, To float64
	Series   int
	Tip      string
}

// Row of bars below one another, one line for each series.
type Row struct {
	Name string
	Bars []Bar
}

// Chart overlays what several series say of the same thing. It has lines or rows.
// It is drawn here and not by a script, so that it prints and needs none.
type Chart struct {
	Title string
	// X and Y are what the axes are, with their units.
	X, Y  string
	Lines []Line
	Rows  []Row
	// Series is how many there are, of rows.
	Series int
	// Log makes the Y axis logarithmic.
	Log bool
	// Limit is drawn across, if it is more than 0: a budget.
	Limit float64
}

// The measures of a chart, in its own pixels.
const (
	chartWidth, chartHeight                    = 1000.0, 300.0
	chartLeft, chartRight, chartTop, chartFoot = 64.0, 12.0, 10.0, 38.0
	rowLeft, rowBar                            = 230.0, 9.0
	// colours is how many series look different; a page also names each.
	colours = 6
)

// SeriesClass is how the n-th series looks.
func SeriesClass(n int) string { return "s" + strconv.Itoa(n%colours) }

// SVG draws the chart.
func (c Chart) SVG() template.HTML {
	if c.Rows != nil {
		return c.rows()
	}
	lo, hi := Point{math.Inf(1), math.Inf(1)}, Point{math.Inf(-1), math.Inf(-1)}
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if math.IsNaN(p.Y) || c.Log && p.Y <= 0 {
				continue
			}
			lo.X, hi.X = min(lo.X, p.X), max(hi.X, p.X)
			lo.Y, hi.Y = min(lo.Y, p.Y), max(hi.Y, p.Y)
		}
	}
	if math.IsInf(lo.X, 0) {
		return `<p class="dim">Nothing of it is in the records.</p>`
	}
	if c.Limit > 0 {
		hi.Y = max(hi.Y, c.Limit)
	}
	if !c.Log {
		lo.Y = min(lo.Y, 0)
	}
	if hi.X == lo.X {
		hi.X++
	}
	if hi.Y == lo.Y {
		hi.Y++
	}
	x := func(v float64) float64 {
		return chartLeft + (v-lo.X)/(hi.X-lo.X)*(chartWidth-chartLeft-chartRight)
	}
	height := func(v float64) float64 { return (v - lo.Y) / (hi.Y - lo.Y) }
	ys := ticks(lo.Y, hi.Y)
	if c.Log {
		from, to := math.Floor(math.Log10(lo.Y)), math.Ceil(math.Log10(hi.Y))
		if to == from {
			to++
		}
		height = func(v float64) float64 { return (math.Log10(v) - from) / (to - from) }
		ys = nil
		for e := from; e <= to; e++ {
			ys = append(ys, math.Pow(10, e))
		}
	}
	y := func(v float64) float64 {
		return chartHeight - chartFoot - height(v)*(chartHeight-chartFoot-chartTop)
	}
	var out strings.Builder
	c.open(&out, chartHeight)
	for _, v := range ys {
		fmt.Fprintf(&out, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="t" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			chartLeft, chartWidth-chartRight, y(v), y(v), chartLeft-5, y(v)+4, tick(v))
	}
	c.axisX(&out, ticks(lo.X, hi.X), x, chartLeft, chartHeight-chartFoot)
	fmt.Fprintf(&out, `<text class="t" x="6" y="%.1f" transform="rotate(-90 12 %.1f)" text-anchor="middle">%s</text>`, chartHeight/2, chartHeight/2, escape(c.Y))
	if c.Limit > 0 {
		fmt.Fprintf(&out, `<line class="limit" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"><title>budget: %s</title></line>`, chartLeft, chartWidth-chartRight, y(c.Limit), y(c.Limit), tick(c.Limit))
	}
	for i, l := range c.Lines {
		for _, part := range l.parts(c.Log) {
			var at []string
			for _, p := range part {
				at = append(at, fmt.Sprintf("%.1f,%.1f", x(p.X), y(p.Y)))
			}
			fmt.Fprintf(&out, `<polyline class="%s" points="%s"><title>%s</title></polyline>`, SeriesClass(i), strings.Join(at, " "), escape(l.Name))
			for _, p := range part {
				if l.Dots || len(part) == 1 {
					fmt.Fprintf(&out, `<circle class="%s" cx="%.1f" cy="%.1f" r="3.5"><title>%s: %s, %s</title></circle>`, SeriesClass(i), x(p.X), y(p.Y), escape(l.Name), tick(p.X), tick(p.Y))
				}
			}
		}
	}
	out.WriteString("</svg></div>")
	return template.HTML(out.String()) //nolint:gosec // drawn here; every text is escaped
}

// parts of a line between its breaks.
func (l Line) parts(log bool) [][]Point {
	var out [][]Point
	open := false
	for _, p := range l.Points {
		if math.IsNaN(p.Y) || log && p.Y <= 0 {
			open = false
			continue
		}
		if !open {
			out, open = append(out, nil), true
		}
		out[len(out)-1] = append(out[len(out)-1], p)
	}
	return out
}

// rows draws intervals: in each row a bar for each series, one below the other.
func (c Chart) rows() template.HTML {
	hi := 1.0
	for _, r := range c.Rows {
		for _, b := range r.Bars {
			hi = max(hi, b.To)
		}
	}
	each := rowBar*float64(max(1, c.Series)) + 7
	height := chartTop + each*float64(len(c.Rows)) + chartFoot
	x := func(v float64) float64 { return rowLeft + v/hi*(chartWidth-rowLeft-chartRight) }
	var out strings.Builder
	c.open(&out, height)
	c.axisX(&out, ticks(0, hi), x, rowLeft, height-chartFoot)
	for i, r := range c.Rows {
		top := chartTop + each*float64(i)
		fmt.Fprintf(&out, `<text class="t" x="%.1f" y="%.1f" text-anchor="end">%s</text><line class="grid" x1="6" x2="%.1f" y1="%.1f" y2="%.1f"/>`,
			rowLeft-6, top+each/2+2, escape(r.Name), chartWidth-chartRight, top+each-2, top+each-2)
		for _, b := range r.Bars {
			fmt.Fprintf(&out, `<rect class="fill %s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s</title></rect>`,
				SeriesClass(b.Series), x(b.From), top+rowBar*float64(b.Series), max(1.5, x(b.To)-x(b.From)), rowBar-1.5, escape(b.Tip))
		}
	}
	out.WriteString("</svg></div>")
	return template.HTML(out.String()) //nolint:gosec // drawn here; every text is escaped
}

func (c Chart) open(out *strings.Builder, height float64) {
	fmt.Fprintf(out, `<div class="scroll"><svg class="chart" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, chartWidth, height, escape(c.Title))
}

func (c Chart) axisX(out *strings.Builder, at []float64, x func(float64) float64, left, foot float64) {
	for _, v := range at {
		fmt.Fprintf(out, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="t" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
			x(v), x(v), chartTop, foot, x(v), foot+15, tick(v))
	}
	fmt.Fprintf(out, `<line class="edge" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="t" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
		left, chartWidth-chartRight, foot, foot, (left+chartWidth)/2, foot+31, escape(c.X))
}

// ticks are round numbers from lo to hi, about six of them.
func ticks(lo, hi float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/5)))
	for _, m := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(step*m) <= 7 {
			step *= m
			break
		}
	}
	var out []float64
	for i := math.Ceil(lo / step); i*step <= hi+step*1e-9; i++ {
		out = append(out, i*step)
	}
	return out
}

func tick(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

func escape(text string) string { return template.HTMLEscapeString(text) }
