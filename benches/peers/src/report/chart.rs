//! Charts, as SVG. They name no font: the reader's sans-serif does.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::table::number;
use super::view::label;
use crate::contestant::{Entry, Kind};

const FONT: &str = "sans-serif";
const WIDTH: u32 = 760;
const BAR: i32 = 22;
const LABELS: i32 = 230;
const INK: RGBColor = RGBColor(60, 60, 60);
const GRID: RGBColor = RGBColor(225, 225, 225);
const SERIES: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(127, 127, 127),
];

/// One bar for each, on a logarithmic scale: the shortest and the longest may be far apart.
pub fn bars(path: &Path, title: &str, values: &[(Entry, f64)]) -> Result<()> {
    let values: Vec<_> = values.iter().filter(|(_, value)| *value > 0.0).collect();
    let Some(least) = values.iter().map(|(_, value)| *value).reduce(f64::min) else {
        return Ok(());
    };
    let most = values.iter().map(|(_, value)| *value).fold(least, f64::max);
    let (low, high) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    let height = 60 + BAR * values.len() as i32;
    let area = SVGBackend::new(path, (WIDTH, height as u32)).into_drawing_area();
    let room = f64::from(WIDTH as i32 - LABELS - 90);
    let at = |value: f64| LABELS + ((value.log10() - low) / (high - low) * room) as i32;
    area.fill(&WHITE).map_err(failed)?;
    let text = |size: u32, right: bool| {
        let side = if right { HPos::Right } else { HPos::Left };
        (FONT, size).into_font().color(&INK).pos(Pos::new(side, VPos::Center))
    };
    area.draw(&Text::new(title.to_owned(), (10, 16), text(15, false))).map_err(failed)?;
    for power in low as i32..=high as i32 {
        let (tick, bottom) = (10f64.powi(power), height - 24);
        let line = vec![(at(tick), 34), (at(tick), bottom)];
        area.draw(&PathElement::new(line, GRID)).map_err(failed)?;
        let style = (FONT, 11).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
        area.draw(&Text::new(plain(tick), (at(tick), bottom + 10), style)).map_err(failed)?;
    }
    for (row, (entry, value)) in values.iter().enumerate() {
        let top = 36 + BAR * row as i32;
        let middle = top + BAR / 2 - 1;
        let bar = [(LABELS, top + 2), (at(*value).max(LABELS + 1), top + BAR - 4)];
        area.draw(&Rectangle::new(bar, colour(entry.kind).filled())).map_err(failed)?;
        area.draw(&Text::new(label(entry), (LABELS - 8, middle), text(12, true)))
            .map_err(failed)?;
        let shown = number(Some(*value));
        area.draw(&Text::new(shown, (at(*value) + 5, middle), text(12, false))).map_err(failed)?;
    }
    area.present().map_err(failed)
}

/// What is drawn as one line.
pub struct Line {
    pub label: String,
    pub points: Vec<(f64, f64)>,
}

/// Lines over logarithmic scales.
pub fn lines(path: &Path, title: &str, below: &str, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied()).filter(|p| p.1 > 0.0);
    let Some(most) = points().map(|(_, y)| y).reduce(f64::max) else { return Ok(()) };
    let least = points().map(|(_, y)| y).fold(most, f64::min);
    let right = points().map(|(x, _)| x).fold(2.0, f64::max);
    let (low, high) = (10f64.powf(least.log10().floor()), 10f64.powf(most.log10().ceil()));
    let area = SVGBackend::new(path, (WIDTH, 400)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let (plot, legend) = area.split_horizontally(WIDTH as i32 - 220);
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, (FONT, 15).into_font().color(&INK))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (1f64..right).log_scale().base(2.0),
            (low..high.max(low * 10.0)).log_scale(),
        )
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .x_desc(below)
        .x_label_formatter(&|x| plain(*x))
        .y_label_formatter(&|y| plain(*y))
        .label_style((FONT, 11).into_font().color(&INK))
        .draw()
        .map_err(failed)?;
    for (number, line) in lines.iter().enumerate() {
        let colour = SERIES[number % SERIES.len()];
        let points = line.points.iter().copied().filter(|point| point.1 > 0.0);
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
            .map_err(failed)?;
        chart.draw_series(points.map(|at| Circle::new(at, 3, colour.filled()))).map_err(failed)?;
        let y = 50 + 20 * number as i32;
        legend.draw(&Rectangle::new([(6, y - 4), (20, y + 4)], colour.filled())).map_err(failed)?;
        let style = (FONT, 12).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        legend.draw(&Text::new(line.label.clone(), (26, y), style)).map_err(failed)?;
    }
    area.present().map_err(failed)
}

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Leaselock | Kind::Fair | Kind::Newcomer => SERIES[0],
        Kind::Naive | Kind::Floor => SERIES[7],
        _ => SERIES[1],
    }
}

fn plain(value: f64) -> String {
    if value >= 1.0 {
        number(Some(value)).trim_end_matches(".00").trim_end_matches(".0").to_owned()
    } else {
        format!("{value}")
    }
}

/// The drawing library's errors cannot be kept: they are bound to the backend.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a chart could not be drawn: {error}")
}
