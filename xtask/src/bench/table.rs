//! Tables as documents take them, aligned for a terminal as well.

use std::fmt;

/// A table under construction; the first column is words, the others are numbers.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads.
    pub fn new(heads: Vec<String>) -> Self {
        Self { rows: vec![heads] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|n| {
                let cells = self.rows.iter().filter_map(|row| row.get(n));
                cells.map(|c| c.chars().count()).max().unwrap_or(0).max(3)
            })
            .collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (n, width) in widths.iter().enumerate() {
                let cell = row.get(n).map_or("", String::as_str);
                if n == 0 {
                    write!(f, "| {cell:<width$} ")?;
                } else {
                    write!(f, "| {cell:>width$} ")?;
                }
            }
            writeln!(f, "|")?;
            if number == 0 {
                for (n, width) in widths.iter().enumerate() {
                    if n == 0 {
                        write!(f, "|{}", "-".repeat(width + 2))?;
                    } else {
                        write!(f, "|{}:", "-".repeat(width + 1))?;
                    }
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// A count with commas between thousands.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many times `of` is contained in `count`; a dash where one is missing.
pub fn ratio(count: Option<u64>, of: Option<u64>) -> String {
    match (count, of) {
        (Some(count), Some(of)) if of > 0 => format!("{:.2}", count as f64 / of as f64),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_table_is_aligned_and_reads_as_markdown() {
        let mut table = Table::new(vec!["what".to_owned(), "n".to_owned()]);
        table.row(vec!["a".to_owned(), "12".to_owned()]);
        assert_eq!(
            table.to_string(),
            "| what |   n |\n|------|----:|\n| a    |  12 |\n"
        );
    }

    #[test]
    fn a_ratio_needs_both_counts() {
        assert_eq!(ratio(Some(3), Some(2)), "1.50");
        assert_eq!(ratio(None, Some(2)), "-");
        assert_eq!(ratio(Some(1), Some(0)), "-");
    }
}
