//! Charts as SVG, to stand inside a page.

use std::ops::Range;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::verdict::number;

const WIDTH: u32 = 760;
const COLORS: [RGBColor; 8] = [
    RGBColor(31, 90, 140),
    RGBColor(214, 120, 40),
    RGBColor(60, 140, 90),
    RGBColor(170, 60, 80),
    RGBColor(120, 100, 170),
    RGBColor(130, 130, 130),
    RGBColor(190, 170, 60),
    RGBColor(70, 170, 180),
];

/// A bar of parts, by their names.
pub(super) struct Bar {
    /// What stands above it.
    pub(super) label: String,
    /// Its parts.
    pub(super) parts: Vec<(String, f64)>,
}

/// A line through points.
pub(super) struct Line {
    /// What it is called.
    pub(super) label: String,
    /// Its points.
    pub(super) points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Bars of parts, one below the other.
pub(super) fn bars(bars: &[Bar]) -> anyhow::Result<String> {
    let height = 60 + 48 * u32::try_from(bars.len())?;
    drawn(height, |area| draw_bars(area, bars))
}

/// Lines over the seconds of an outage, which is shaded; upwards by powers of ten.
pub(super) fn lines(lines: &[Line], shaded: Range<f64>) -> anyhow::Result<String> {
    drawn(300, |area| draw_lines(area, lines, shaded))
}

fn drawn(height: u32, draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw(&area)?;
        area.present().map_err(|error| anyhow!("{error}"))?;
    }
    Ok(svg)
}

fn draw_bars(area: &Area<'_>, bars: &[Bar]) -> anyhow::Result<()> {
    let whole = |bar: &Bar| bar.parts.iter().map(|(_, value)| value).sum::<f64>();
    let most = bars.iter().map(whole).fold(f64::MIN_POSITIVE, f64::max);
    let rows = f64::from(u32::try_from(bars.len())?);
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in bars.iter().flat_map(|bar| &bar.parts) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    // The legend stands beside the bars.
    let room = if names.len() > 1 { 1.4 } else { 1.05 };
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .x_label_area_size(26)
        .build_cartesian_2d(0.0..most * room, 0.0..rows)
        .map_err(failed)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh().disable_y_axis().light_line_style(TRANSPARENT);
    mesh.x_label_formatter(&|value| number(*value)).draw().map_err(failed)?;
    let left = Pos::new(HPos::Left, VPos::Center);
    for (name, color) in names.iter().zip(COLORS.iter().cycle()) {
        let mut boxes = Vec::new();
        for (bar, row) in bars.iter().zip(0_u32..) {
            let y = rows - 1.0 - f64::from(row);
            let mut x = 0.0;
            for (part, value) in &bar.parts {
                if part == name {
                    boxes.push(Rectangle::new([(x, y + 0.1), (x + value, y + 0.55)], color.filled()));
                }
                x += value;
            }
        }
        let series = chart.draw_series(boxes).map_err(failed)?;
        if names.len() > 1 {
            let color = *color;
            series
                .label(*name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
        }
    }
    let labels = bars.iter().zip(0_u32..).map(|(bar, row)| {
        let text = format!("{}: {}", bar.label, number(whole(bar)));
        let style = ("sans-serif", 15).into_font().color(&BLACK).pos(left);
        Text::new(text, (0.0, rows - 1.0 - f64::from(row) + 0.78), style)
    });
    chart.draw_series(labels).map_err(failed)?;
    if names.len() > 1 {
        let mut legend = chart.configure_series_labels();
        legend
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8));
        legend
            .border_style(TRANSPARENT)
            .label_font(("sans-serif", 13))
            .draw()
            .map_err(failed)?;
    }
    Ok(())
}

fn draw_lines(area: &Area<'_>, lines: &[Line], shaded: Range<f64>) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|(x, _)| *x).fold(shaded.end, f64::max);
    let most = points().map(|(_, y)| *y).fold(10.0, f64::max) * 1.5;
    let bottom = points().map(|(_, y)| *y).fold(most, f64::min).max(0.1) / 1.5;
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .x_label_area_size(38)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, (bottom..most).log_scale())
        .map_err(failed)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .x_desc("seconds")
        .y_desc("milliseconds")
        .y_labels(5);
    mesh.x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value));
    mesh.draw().map_err(failed)?;
    let band = Rectangle::new([(shaded.start, bottom), (shaded.end, most)], BLACK.mix(0.08).filled());
    chart.draw_series([band]).map_err(failed)?;
    for (line, color) in lines.iter().zip(COLORS) {
        let series = LineSeries::new(line.points.iter().copied(), color.stroke_width(2));
        chart
            .draw_series(series)
            .map_err(failed)?
            .label(line.label.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
    }
    let mut legend = chart.configure_series_labels();
    legend
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8));
    legend
        .border_style(TRANSPARENT)
        .label_font(("sans-serif", 13))
        .draw()
        .map_err(failed)?;
    Ok(())
}

fn failed<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("a chart cannot be drawn: {error}")
}
