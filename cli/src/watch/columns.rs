//! Which columns there is room for, and how wide they are.

use ratatui::text::Span;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Name,
    State,
    Holder,
    Left,
    Age,
    Queue,
    Recent,
}

impl Column {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Name => "LOCK",
            Self::State => "STATE",
            Self::Holder => "HOLDER",
            Self::Left => "LEFT",
            Self::Age => "AGE",
            Self::Queue => "QUEUE",
            Self::Recent => "RECENT",
        }
    }

    fn least(self) -> usize {
        match self {
            Self::Queue => 5,
            Self::Age => 7,
            Self::Left => BAR + 8,
            Self::Name | Self::State | Self::Holder | Self::Recent => 10,
        }
    }
}

/// The cells of a bar in the column [`Column::Left`].
pub(crate) const BAR: usize = 6;
/// As they are shown, and as they are left out: the last first.
const ALL: [Column; 7] = [
    Column::Name,
    Column::State,
    Column::Holder,
    Column::Left,
    Column::Age,
    Column::Queue,
    Column::Recent,
];
/// From so many cells on all tenures that a record remembers have room, and the present one.
const WIDE: usize = 100;
const ALL_TENURES: usize = 17;

/// The columns and their widths for a screen of this width; between them there is one cell.
pub(crate) fn columns(width: usize) -> Vec<(Column, usize)> {
    let mut columns = Vec::new();
    let mut rest = width;
    for column in ALL {
        let gap = usize::from(!columns.is_empty());
        let wanted = match column {
            Column::Recent if width >= WIDE => ALL_TENURES,
            column => column.least(),
        };
        match rest.checked_sub(gap + wanted) {
            Some(less) => rest = less,
            None => break,
        }
        columns.push((column, wanted));
    }
    // A name, cut off, is better than nothing.
    if columns.is_empty() {
        return vec![(Column::Name, width)];
    }
    share_out(&mut columns, rest);
    columns
}

/// Names and holders get what is left over.
fn share_out(columns: &mut [(Column, usize)], rest: usize) {
    let has_holder = columns.iter().any(|(column, _)| *column == Column::Holder);
    let for_holder = if has_holder { rest / 2 } else { 0 };
    for (column, width) in columns {
        match column {
            Column::Name => *width += rest - for_holder,
            Column::Holder => *width += for_holder,
            _ => {}
        }
    }
}

/// `text` in exactly `width` cells.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let mut fitted = text.to_owned();
    if Span::raw(text).width() > width {
        fitted.clear();
        for letter in text.chars() {
            let longer = format!("{fitted}{letter}…");
            if Span::raw(longer.as_str()).width() > width {
                break;
            }
            fitted.push(letter);
        }
        if width > 0 {
            fitted.push('…');
        }
    }
    let missing = width.saturating_sub(Span::raw(fitted.as_str()).width());
    fitted + &" ".repeat(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_is_used_and_none_exceeded() {
        for width in 0..300 {
            let columns = columns(width);
            let gaps = columns.len() - 1;
            let sum: usize = columns.iter().map(|(_, width)| width).sum();
            assert_eq!(sum + gaps, width, "{columns:?}");
        }
    }

    #[test]
    fn all_columns_fit_eighty() {
        assert_eq!(columns(80).len(), ALL.len());
        assert_eq!(columns(120).last(), Some(&(Column::Recent, ALL_TENURES)));
        assert_eq!(columns(30).last(), Some(&(Column::State, 10)));
    }

    #[test]
    fn text_is_cut_by_cells() {
        assert_eq!(fit("abc", 5), "abc  ");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("漢字漢字", 5), "漢字…");
        assert_eq!(fit("漢字漢字", 4), "漢… ");
        assert_eq!(fit("abc", 1), "…");
        assert_eq!(fit("abc", 0), "");
    }
}
