//! Tables as kubectl prints them.

/// The rows under their heads; a column is as wide as its longest cell.
pub(super) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heads.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in [heads.map(str::to_owned)].iter().chain(rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text += cells.join("   ").trim_end();
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_column_is_as_wide_as_its_longest_cell() {
        let rows = [["a", "é"], ["longer", "x"]].map(|row| row.map(str::to_owned));
        assert_eq!(super::table(["NAME", "OF"], &rows), "NAME     OF\na        é\nlonger   x\n");
    }
}
