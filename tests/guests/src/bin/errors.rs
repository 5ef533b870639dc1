//! Returns an error with a chain of three: what was computed, what was read, what was wrong.

use std::error::Error;
use std::fmt;

/// An error and its cause.
#[derive(Debug)]
struct Layer {
    text: String,
    cause: Option<Box<Layer>>,
}

impl Layer {
    fn new(text: impl Into<String>, cause: Option<Layer>) -> Self {
        Self {
            text: text.into(),
            cause: cause.map(Box::new),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Error for Layer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}

/// Fails; an input of `code:N` fails with the code N instead.
#[optwasm_guest::job]
fn compute(input: String) -> Result<(), Layer> {
    if let Some(code) = input
        .strip_prefix("code:")
        .and_then(|code| code.parse().ok())
    {
        optwasm_guest::fail(code, "a code of my own");
    }
    let root = Layer::new(format!("{input:?} is no number"), None);
    let read = Layer::new("cannot read the bounds", Some(root));
    Err(Layer::new("cannot solve the model", Some(read)))
}
