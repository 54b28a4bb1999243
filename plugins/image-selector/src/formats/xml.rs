//! A small reader of XML: the texts of elements by their path.

/// The limit of elements within each other. Project files have about ten.
const MOST_DEPTH: usize = 64;

/// The text of an element.
#[derive(Debug, PartialEq)]
pub struct Element {
    /// The names from the document's root to the element, e.g. `project/properties/java.version`.
    pub path: String,
    /// The text without blanks around it.
    pub text: String,
}

/// Returns the elements that have a text and no elements inside. Comments, instructions and attributes do not count.
///
/// # Errors
/// An error if the tags do not match, if the document breaks off, or if it is deeper than 64 elements.
pub fn texts(document: &str) -> Result<Vec<Element>, String> {
    let broken = || "it can't be read as XML".to_owned();
    let mut found = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut text = String::new();
    let mut rest = document;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        if let Some(comment) = tag.strip_prefix("!--") {
            rest = comment.split_once("-->").ok_or_else(broken)?.1;
        } else if let Some(literal) = tag.strip_prefix("![CDATA[") {
            let (inside, after) = literal.split_once("]]>").ok_or_else(broken)?;
            text.push_str(inside);
            rest = after;
        } else if let Some(instruction) = tag.strip_prefix('?') {
            rest = instruction.split_once("?>").ok_or_else(broken)?.1;
        } else {
            let end = end_of_tag(tag).ok_or_else(broken)?;
            let (inside, after) = tag.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if let Some(name) = inside.strip_prefix('/') {
                let path = open.join("/");
                if open.pop() != Some(name.trim()) {
                    return Err(broken());
                }
                if !text.trim().is_empty() {
                    found.push(Element { path, text: text.trim().to_owned() });
                }
            } else if !inside.starts_with('!') && !inside.ends_with('/') {
                open.push(inside.split_whitespace().next().unwrap_or_default());
                if open.len() > MOST_DEPTH {
                    return Err(broken());
                }
            }
            text.clear();
        }
    }
    if open.is_empty() { Ok(found) } else { Err(broken()) }
}

/// Returns the position of the `>` that ends a tag. One in an attribute's value does not.
fn end_of_tag(tag: &str) -> Option<usize> {
    let mut quote = None;
    tag.char_indices().find_map(|(at, c)| {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::texts;

    fn read(document: &str) -> Vec<(String, String)> {
        texts(document).unwrap().into_iter().map(|element| (element.path, element.text)).collect()
    }

    fn pair(path: &str, text: &str) -> (String, String) {
        (path.to_owned(), text.to_owned())
    }

    #[test]
    fn an_element_is_known_by_its_path() {
        let document = "<?xml version='1.0'?>\n<!DOCTYPE p><p a='>' b=\"/>\"><v> 21 </v><x/><q><v>8</v></q></p>";
        assert_eq!(read(document), [pair("p/v", "21"), pair("p/q/v", "8")]);
    }

    #[test]
    fn comments_do_not_count_and_literal_text_does() {
        assert_eq!(read("<p><!-- <v>8</v> --><v>2<!-- 9 -->1</v></p>"), [pair("p/v", "21")]);
        assert_eq!(read("<p><v><![CDATA[<v>]]></v></p>"), [pair("p/v", "<v>")]);
    }

    #[test]
    fn a_broken_document_is_an_error() {
        for document in ["<p>", "<p><v></p></v>", "<p", "<!-- ", "<![CDATA[", "<?xml", "</p>"] {
            assert!(texts(document).is_err(), "{document}");
        }
        assert!(texts(&format!("{}{}", "<a>".repeat(9_000), "</a>".repeat(9_000))).is_err());
        assert_eq!(texts("no XML"), Ok(Vec::new()));
    }
}
