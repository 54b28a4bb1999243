//! Checks the contents of a component before it is compiled. Compiling costs far more than reading, and the
//! component's author controls how much. Components that the pool of a service would refuse are refused here too, so
//! that every command gives the same answer.

use wasmparser::{Parser, Payload};

/// Maximum core modules of a component.
const MODULES: usize = 64;
/// Maximum functions of all its modules. An interpreter such as Python's has some 20,000.
const FUNCTIONS: usize = 100_000;
/// Maximum bytes of one function. Compile time grows faster than the size of a function.
const FUNCTION: usize = 512 << 10;
/// Maximum memories of a module, as the pool provides.
pub(super) const MEMORIES: u32 = 1;
/// Maximum tables of a module.
pub(super) const TABLES: u32 = 4;

/// Checks a component.
///
/// # Errors
/// The part that exceeds its limit. Bytes that are not a component are left for the compiler to report.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let (mut modules, mut functions) = (0_usize, 0_usize);
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { return Ok(()) };
        match payload {
            Payload::ModuleSection { .. } => {
                modules += 1;
                if modules > MODULES {
                    return Err(format!("has more than {MODULES} core modules, the maximum for a plugin"));
                }
            }
            Payload::MemorySection(section) if section.count() > MEMORIES => {
                let count = section.count();
                return Err(format!("has a module with {count} memories, but a plugin may have {MEMORIES} in each"));
            }
            Payload::TableSection(section) if section.count() > TABLES => {
                let count = section.count();
                return Err(format!("has a module with {count} tables, but a plugin may have {TABLES} in each"));
            }
            Payload::CodeSectionStart { count, .. } => {
                functions = functions.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
                if functions > FUNCTIONS {
                    return Err(format!("has {functions} functions, but a plugin may have {FUNCTIONS}"));
                }
            }
            Payload::CodeSectionEntry(body) if body.range().len() > FUNCTION => {
                let (length, most) = (body.range().len() >> 10, FUNCTION >> 10);
                return Err(format!("has a function of {length} KiB, but the maximum is {most} KiB"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(wat: &str) -> Result<(), String> {
        check(&wat::parse_str(wat).unwrap())
    }

    #[test]
    fn what_there_is_too_much_of_is_told_before_anything_is_compiled() {
        let memories = said("(component (core module (memory 1) (memory 1) (memory 1) (memory 1)))").unwrap_err();
        assert_eq!(memories, "has a module with 4 memories, but a plugin may have 1 in each");
        let tables = format!("(component (core module {}))", "(table 1 funcref)".repeat(5));
        assert!(said(&tables).unwrap_err().contains("5 tables"));
        let modules = format!("(component {})", "(core module)".repeat(65));
        assert!(said(&modules).unwrap_err().contains("64 core modules"));
        let large = format!("(component (core module (func {})))", "nop ".repeat(600 << 10));
        assert_eq!(said(&large).unwrap_err(), "has a function of 600 KiB, but the maximum is 512 KiB");
        let many = format!("(component (core module {}))", "(func)".repeat(100_001));
        assert!(said(&many).unwrap_err().contains("100001 functions"));
        // Nested modules and components count, too.
        assert!(said("(component (component (core module (memory 1) (memory 1))))").is_err());
        assert_eq!(said("(component (core module (memory 1) (table 1 funcref) (func)))"), Ok(()));
        assert_eq!(check(b"no component"), Ok(()));
    }
}
