//! The text that every match of an expression must hold somewhere: an index key for expressions that begin
//! with nothing certain, such as `/.*foo`.

use super::parse::Node;

/// Stands between two runs of text.
const BREAK: u8 = 0;

/// The runs of text, in lower case, each of which stands somewhere in every match; they end in a zero.
pub(super) fn required(root: &Node) -> Vec<u8> {
    let mut runs = Vec::new();
    walk(root, &mut runs);
    runs.push(BREAK);
    runs
}

fn walk(node: &Node, runs: &mut Vec<u8>) {
    match node {
        // These take up no text: what stands on their sides is side by side.
        Node::Empty | Node::Assert(_) | Node::Keep | Node::Look { .. } => {}
        Node::Byte { byte, .. } => runs.push(byte.to_ascii_lowercase()),
        Node::Capture(_, inner) | Node::Atomic(inner) => walk(inner, runs),
        Node::Cat(nodes) => nodes.iter().for_each(|node| walk(node, runs)),
        Node::Repeat { node, min, .. } => {
            runs.push(BREAK);
            if *min > 0 {
                walk(node, runs);
                runs.push(BREAK);
            }
        }
        Node::Set(_) | Node::Alt(_) | Node::Backref(_) => runs.push(BREAK),
    }
}
