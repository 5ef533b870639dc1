//! The core file: a model, and what a reader of models does not keep.

use std::collections::{HashMap, HashSet};

use optwasm_model::{Model, mps};

use super::lines::lines;
use crate::ProblemError;

/// The core.
pub(super) struct Core {
    pub model: Model,
    /// Name of the objective row.
    pub objective: String,
    /// Rows of the file in their order, with the objective and other rows without sides: name and, of
    /// constraints, the index.
    pub rows: Vec<(String, Option<usize>)>,
    /// Where in `rows` each name is.
    pub places: HashMap<String, usize>,
    /// Names by which lines of the section RHS begin.
    pub side_names: HashSet<String>,
    pub row_index: HashMap<String, usize>,
    pub column_index: HashMap<String, usize>,
    /// Where in the model's entries each pair of row and column is.
    pub entry_index: HashMap<(usize, usize), usize>,
}

impl Core {
    /// Whether a word in the place of a column stands for right-hand sides.
    pub fn is_side_name(&self, word: &str) -> bool {
        word.eq_ignore_ascii_case("RHS") || self.side_names.contains(word)
    }

    pub fn read(file: &str, text: &str) -> Result<Self, ProblemError> {
        let model = mps::read(text.as_bytes()).map_err(|error| ProblemError::Model {
            file: file.to_owned(),
            error,
        })?;
        let row_index: HashMap<String, usize> = model
            .rows
            .iter()
            .enumerate()
            .map(|(index, row)| (row.name.clone(), index))
            .collect();
        let column_index = model
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| (column.name.clone(), index))
            .collect();
        let entries = model.entries.iter().enumerate();
        let entry_index = entries
            .map(|(index, entry)| ((entry.row, entry.column), index))
            .collect();
        let mut rows = Vec::new();
        let mut places = HashMap::new();
        let mut side_names = HashSet::new();
        let mut objective = None;
        let mut section = "";
        for line in lines(text) {
            if line.is_header {
                section = line.words[0];
                continue;
            }
            let name = || line.words.get(1..).map(|words| words.join(" "));
            match section.to_ascii_uppercase().as_str() {
                "OBJNAME" => objective = line.words.first().map(|&name| name.to_owned()),
                "ROWS" => {
                    let Some(name) = name() else { continue };
                    let index = row_index.get(&name).copied();
                    // As the reader of MPS has it: the first one, unless another is named.
                    if index.is_none() && objective.is_none() {
                        objective = Some(name.clone());
                    }
                    places.insert(name.clone(), rows.len());
                    rows.push((name, index));
                }
                // Pairs of row and number, perhaps with a name before them.
                "RHS" if line.words.len() % 2 == 1 => {
                    side_names.insert(line.words[0].to_owned());
                }
                _ => {}
            }
        }
        Ok(Core {
            model,
            objective: objective.unwrap_or_default(),
            rows,
            places,
            side_names,
            row_index,
            column_index,
            entry_index,
        })
    }
}
