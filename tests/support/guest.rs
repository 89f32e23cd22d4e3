//! Guests written by hand, for what no compiler would make: modules that lie, loop or take too much. A small assembler of
//! WebAssembly (the binary format of its specification, version 1).

/// A module with one memory, `alloc` and a transform. As it stands it says that nothing came out.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The transform's export.
    pub kind: &'static str,
    /// What `alloc` gives.
    pub alloc: i32,
    /// The transform: `copy_records` is called with each of these, then the status is given.
    pub says: Vec<(i32, i32)>,
    pub status: i32,
    /// Lies at [`DATA`].
    pub data: Vec<u8>,
    /// The least and the most of memory.
    pub pages: (u32, Option<u32>),
    /// Instead of what is said above.
    pub transform: Option<Vec<u8>>,
    pub alloc_body: Option<Vec<u8>>,
    /// Exported when there.
    pub dealloc: Option<Vec<u8>>,
    pub init: Option<Vec<u8>>,
    pub look_back: Option<Vec<u8>>,
    /// Runs when it is instantiated.
    pub start: Option<Vec<u8>>,
    pub import: (&'static str, &'static str),
    /// Elements of its table.
    pub table: Option<u32>,
}

pub const DATA: i32 = 4096;

impl Default for Guest {
    fn default() -> Self {
        Self {
            kind: "filter",
            alloc: 1024,
            says: vec![(DATA, 5)],
            status: 0,
            data: vec![0; 5],
            pages: (1, None),
            transform: None,
            alloc_body: None,
            dealloc: None,
            init: None,
            look_back: None,
            start: None,
            import: ("env", "copy_records"),
            table: None,
        }
    }
}

/// `loop br 0 end`, and whatever is wanted behind it.
pub fn endless() -> Vec<u8> {
    vec![0x03, 0x40, 0x0c, 0x00, 0x0b, 0x00]
}

/// Grows the memory by a page until it cannot.
pub fn grows() -> Vec<u8> {
    let mut code = vec![0x03, 0x40];
    code.extend(constant(1));
    code.extend([0x40, 0x00, 0x1a, 0x0c, 0x00, 0x0b, 0x00]);
    code
}

/// `unreachable`
pub fn traps() -> Vec<u8> {
    vec![0x00]
}

pub fn constant(n: i32) -> Vec<u8> {
    let mut code = vec![0x41];
    signed(n, &mut code);
    code
}

/// Calls `copy_records` with each, then gives the status.
pub fn saying(says: &[(i32, i32)], status: i32) -> Vec<u8> {
    let mut code = Vec::new();
    for (at, len) in says {
        code.extend(constant(*at));
        code.extend(constant(*len));
        code.extend([0x10, 0x00]);
    }
    code.extend(constant(status));
    code
}

impl Guest {
    /// One that gives these bytes as its output.
    pub fn giving(kind: &'static str, output: &[u8], status: i32) -> Self {
        Self { kind, data: output.to_vec(), says: vec![(DATA, output.len() as i32)], status, ..Self::default() }
    }

    /// The module's bytes.
    pub fn assemble(&self) -> Vec<u8> {
        // Types: 0 (i32, i32), 1 (i32) -> i32, 2 (i32, i32, i32) -> i32, 3 ().
        let types: [&[u8]; 4] = [
            &[0x60, 2, 0x7f, 0x7f, 0],
            &[0x60, 1, 0x7f, 1, 0x7f],
            &[0x60, 3, 0x7f, 0x7f, 0x7f, 1, 0x7f],
            &[0x60, 0, 0],
        ];
        let transform = self.transform.clone().unwrap_or_else(|| saying(&self.says, self.status));
        let alloc = self.alloc_body.clone().unwrap_or_else(|| constant(self.alloc));
        let mut functions = vec![("alloc", 1u8, alloc), (self.kind, 2, transform)];
        let optional = [("dealloc", 0, &self.dealloc), ("init", 2, &self.init), ("look_back", 2, &self.look_back)];
        functions.extend(optional.into_iter().filter_map(|(name, ty, body)| Some((name, ty, body.clone()?))));
        functions.extend(self.start.iter().map(|body| ("started", 3, body.clone())));

        let mut module = b"\0asm\x01\0\0\0".to_vec();
        section(1, list(types.iter().map(|t| t.to_vec())), &mut module);
        let mut import = Vec::new();
        name(self.import.0, &mut import);
        name(self.import.1, &mut import);
        import.extend([0x00, 0x00]);
        section(2, list([import]), &mut module);
        section(3, list(functions.iter().map(|f| vec![f.1])), &mut module);
        if let Some(elements) = self.table {
            let mut table = vec![0x70, 0x00];
            unsigned(elements, &mut table);
            section(4, list([table]), &mut module);
        }
        let mut memory = vec![u8::from(self.pages.1.is_some())];
        unsigned(self.pages.0, &mut memory);
        if let Some(most) = self.pages.1 {
            unsigned(most, &mut memory);
        }
        section(5, list([memory]), &mut module);
        let mut exports = vec![export("memory", 0x02, 0)];
        exports.extend(functions.iter().enumerate().map(|(i, f)| export(f.0, 0x00, i as u32 + 1)));
        section(7, list(exports), &mut module);
        if self.start.is_some() {
            section(8, vec![functions.len() as u8], &mut module);
        }
        section(10, list(functions.iter().map(|f| body(&f.2))), &mut module);
        let mut data = vec![0x00];
        data.extend(constant(DATA));
        data.push(0x0b);
        unsigned(self.data.len() as u32, &mut data);
        data.extend(&self.data);
        section(11, list([data]), &mut module);
        module
    }
}

fn unsigned(mut n: u32, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn signed(mut n: i32, out: &mut Vec<u8>) {
    loop {
        let byte = n as u8 & 0x7f;
        n >>= 7;
        if (n == 0 && byte & 0x40 == 0) || (n == -1 && byte & 0x40 != 0) {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

fn list(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<_> = items.into_iter().collect();
    let mut out = Vec::new();
    unsigned(items.len() as u32, &mut out);
    out.extend(items.concat());
    out
}

fn section(id: u8, content: Vec<u8>, out: &mut Vec<u8>) {
    out.push(id);
    unsigned(content.len() as u32, out);
    out.extend(content);
}

fn name(text: &str, out: &mut Vec<u8>) {
    unsigned(text.len() as u32, out);
    out.extend(text.as_bytes());
}

fn export(text: &str, kind: u8, index: u32) -> Vec<u8> {
    let mut out = Vec::new();
    name(text, &mut out);
    out.push(kind);
    unsigned(index, &mut out);
    out
}

/// Without locals.
fn body(code: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    unsigned(code.len() as u32 + 2, &mut out);
    out.push(0);
    out.extend(code);
    out.push(0x0b);
    out
}
