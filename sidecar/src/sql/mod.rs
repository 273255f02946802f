//! SQL as text: bounded parse, deparse with proof, tokens.
