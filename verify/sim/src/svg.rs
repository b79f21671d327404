//! A timeline as a picture.

use crate::trace::Timeline;

/// Draws a timeline as SVG.
pub fn draw(timeline: &Timeline) -> String {
    timeline.to_string()
}
