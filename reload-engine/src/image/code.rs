//! Decodes every function once: what it refers to, where those references stand, and what its entry allows.
//!
//! Says nothing about which references are to be changed; the planner decides that against the other generation.

use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use twox_hash::XxHash3_128;

use super::{
    Image, NOBODY, RelocationKind, Resolves, SectionKind,
    approach::Approach,
    are_same_symbols,
    entry::{self, Entries, Facts, Padding},
    local_exec::LocalExec,
    places::ascending,
    recurring::{At, Collector, FieldKind, Record, Recurring},
    stretch::{Part, Stretch},
    switches::{self, TableTracker},
    tls_block::{APPROACH, OPERAND_SIZE, TlsPairs, TlsTracker},
};
use crate::{hands::Hands, model::Vaddr};

/// A RIP-relative operand.
#[derive(Clone, Copy, Debug)]
pub struct CodeReference {
    /// Where its 32-bit displacement stands.
    pub site: Vaddr,
    pub target: Vaddr,
    /// Index of the function it stands in, or [`NOBODY`].
    function: u32,
    /// Bytes from the site to the next instruction.
    length: u8,
    /// `lea`: the address itself is taken.
    pub address_taken: bool,
}

impl CodeReference {
    /// The next instruction, which the displacement counts from.
    pub fn next(&self) -> Vaddr {
        Vaddr(self.site.0 + u64::from(self.length))
    }

    /// Index of the function it stands in.
    pub fn function(&self) -> Option<u32> {
        (self.function != NOBODY).then_some(self.function)
    }
}

/// A reference to a GOT pair of module id and offset that is handed to `__tls_get_addr`, or to the TLS descriptor of the
/// block's start.
#[derive(Clone, Copy, Debug)]
pub struct TlsUse {
    pub site: Vaddr,
    pub next: Vaddr,
    pub pair: Vaddr,
    pub function: Option<u32>,
    /// Padded as the psABI has it where a single variable is asked for (general dynamic), also the one that lies first.
    pub general: bool,
}

/// A 32-bit distance from the start of the module's TLS block, in a function that uses a local-dynamic pair; in a program,
/// from the thread pointer.
#[derive(Clone, Copy, Debug)]
pub struct TlsDisplacement {
    pub site: Vaddr,
    /// From the start of the TLS block, in two's complement: an index that counts from 1 can begin before it.
    pub offset: u64,
    pub function: u32,
    /// Memory is accessed right there: something that is added to it, or an address kept for later, could lead elsewhere.
    pub exact: bool,
    /// The base register provably holds what `__tls_get_addr` returned, or the encoding leaves no other reading.
    pub certain: bool,
}

/// What one instruction refers to, in the order met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mention {
    /// An address in this file: data, constant, GOT slot or code.
    Memory(Vaddr),
    /// A branch to where another function starts, which is the first of this index that does.
    Function { index: u32, start: Vaddr },
    /// A branch out of the function to anything else.
    Branch(Vaddr),
    /// An offset inside the module's TLS block.
    ThreadLocal(u64),
}

impl Mention {
    pub fn address(self) -> Option<Vaddr> {
        match self {
            Mention::Memory(address) | Mention::Function { start: address, .. } | Mention::Branch(address) => {
                Some(address)
            }
            Mention::ThreadLocal(_) => None,
        }
    }
}

/// What stood in the position-dependent fields of one function's instructions.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Which of [`Scan::mentions`], and where in it.
    part: u32,
    mentions: Range<u32>,
    /// An instruction could not be decoded: nothing can be said about its content.
    pub opaque: bool,
}

/// The result of decoding a file.
#[derive(Debug, Default)]
pub struct Scan {
    pub references: Vec<CodeReference>,
    /// As [`Analysis::approaches`](super::Analysis::approaches).
    pub approaches: Vec<CodeReference>,
    pub tls_uses: Vec<TlsUse>,
    pub tls_displacements: Vec<TlsDisplacement>,
    /// Where tables of 32-bit distances from their own start stand, ascending: the code adds what it loads to the address
    /// that it loaded from.
    pub relative_tables: Vec<Vaddr>,
    /// Of all functions, one after the other, by part of the file.
    mentions: Vec<Vec<Mention>>,
    /// Those of the addresses they refer to that lie in constants.
    pub constants: Vec<Vaddr>,
    /// Parallel to the image's functions.
    pub bodies: Vec<Body>,
    /// Hashes of their instructions with every position-dependent field zeroed.
    pub skeletons: Vec<u128>,
    pub entries: Entries,
    pub recurring: Recurring,
}

impl Scan {
    /// What the function of this index refers to.
    pub fn mentions(&self, function: usize) -> &[Mention] {
        self.mentions_of(&self.bodies[function])
    }

    pub fn mentions_of(&self, body: &Body) -> &[Mention] {
        &self.mentions[body.part as usize][body.mentions.start as usize..body.mentions.end as usize]
    }
}

/// Decodes all code sections of `image`, whose symbols have been collected, but for the code that it has in common with `before`;
/// `landing_pads` are where exceptions land.
///
/// # Errors
/// A code section whose bytes are not in the file.
pub fn scan(image: &Image, before: Option<&Image>, landing_pads: &[Vaddr]) -> Result<Scan, String> {
    let mut all = Vec::new();
    for section in image.tables.sections.iter().filter(|section| section.kind.is_code()) {
        let bytes = image.bytes_from(Vaddr(section.address));
        if bytes.len() as u64 != section.size {
            return Err(format!("section {} lies outside the file", section.name));
        }
        all.push(Part { start: section.address, bytes });
    }
    let (pairs, approach) = (TlsPairs::of(image), Approach::of(image));
    let before = before.filter(|before| thread_locals_agree(image, before));
    let parts: Vec<Vec<Part<'_>>> = match image.hands {
        Hands::One => vec![all],
        Hands::All => all.into_iter().flat_map(|code| code.smaller(image)).map(|part| vec![part]).collect(),
    };
    let parts: Vec<(u32, Vec<Part<'_>>)> = (0..).zip(parts).collect();
    let parts = image.hands.map(parts, |(number, part): (u32, Vec<Part<'_>>)| {
        let stretches: Vec<Stretch<'_>> = part.iter().flat_map(|code| code.stretches(image)).collect();
        let mut scanner = Scanner::new(image, before, &pairs, &approach, number, &stretches);
        stretches.iter().for_each(|stretch| scanner.stretch(stretch));
        scanner
    });
    Ok(joined(image, parts, landing_pads))
}

/// Whether an instruction that may reach a thread-local of a program reaches the same one in both files.
fn thread_locals_agree(one: &Image, other: &Image) -> bool {
    let (one, other) = (&one.tables, &other.tables);
    one.program == other.program && one.thread_pointer() == other.thread_pointer()
}

/// Decodes some stretches; what it finds of functions is joined with what others find by [`joined`].
struct Scanner<'a> {
    image: &'a Image,
    before: Option<&'a Image>,
    /// It has the same functions at the same indices.
    same_symbols: bool,
    /// Which of its recurring functions follows the one that was found last.
    expected: At,
    recurring: Collector,
    pairs: &'a TlsPairs,
    approach: &'a Approach,
    scan: Scan,
    /// Which part of the file this is.
    part: u32,
    /// Index of the first of its functions, which what follows is parallel to, as the bodies and skeletons are.
    first: usize,
    facts: Vec<Facts>,
    padding: Padding,
    /// Where control arrives past the start of a function by branches from elsewhere.
    stray_targets: Vec<Vaddr>,
    /// Addresses taken of what may be tables of jumps, each with who takes it.
    possible_tables: Vec<(u32, Vaddr)>,
    skeleton: Vec<u8>,
    record: Record,
}

impl<'a> Scanner<'a> {
    fn new(
        image: &'a Image,
        before: Option<&'a Image>,
        pairs: &'a TlsPairs,
        approach: &'a Approach,
        part: u32,
        of: &[Stretch<'_>],
    ) -> Self {
        let stretches = of.len();
        let first = of.iter().find_map(|stretch| Some(stretch.functions.as_ref()?.start)).unwrap_or(0);
        // As much as most code has, so that little is moved while it is collected.
        let scan = Scan {
            references: Vec::with_capacity(2 * stretches),
            mentions: vec![Vec::with_capacity(4 * stretches)],
            bodies: Vec::with_capacity(stretches),
            skeletons: Vec::with_capacity(stretches),
            ..Scan::default()
        };
        Scanner {
            image,
            before,
            same_symbols: before.is_some_and(|before| are_same_symbols(before, image)),
            expected: At::default(),
            recurring: Collector::default(),
            pairs,
            approach,
            scan,
            part,
            first,
            facts: Vec::with_capacity(stretches),
            padding: Padding(Vec::with_capacity(stretches)),
            stray_targets: Vec::new(),
            possible_tables: Vec::new(),
            skeleton: Vec::new(),
            record: Record::default(),
        }
    }

    fn stretch(&mut self, stretch: &Stretch<'_>) {
        if !self.recurs(stretch) {
            self.decode(stretch);
        }
    }

    /// Takes over what is known of the same code in the file before, if there is such.
    fn recurs(&mut self, stretch: &Stretch<'_>) -> bool {
        let (Some(functions), Some(before)) = (&stretch.functions, self.before) else { return false };
        let (index, known) = (functions.start as u32, &before.recurring);
        let found = if self.same_symbols {
            known.indexed(index, self.expected)
        } else {
            known.named(before, self.image.identities()[functions.start].key, self.expected)
        };
        let Some(at) = found else { return false };
        self.expected = known.after(at);
        let pairs = &self.pairs.all;
        let is_pair = |target| !pairs.is_empty() && pairs.binary_search(&target).is_ok();
        let Some(same) = known.same(before, at, stretch, is_pair) else { return false };
        let owner = Some(index);
        let first = self.mentions().len();
        for field in same.fields {
            let (site, next) = (Vaddr(stretch.start + u64::from(field.at)), field.next_in(stretch));
            let target = field.target_in(stretch);
            if field.kind == FieldKind::Branch {
                let mention = self.branch(target);
                self.mentions().push(mention);
                continue;
            }
            self.mentions().push(Mention::Memory(target));
            let constant = self.memory(owner, site, next, target, field.kind != FieldKind::Memory);
            self.scan.constants.extend(constant.then_some(target));
            if field.kind == FieldKind::Table {
                self.scan.relative_tables.push(target);
            }
        }
        let mut facts = same.facts;
        facts.alone = self.is_alone(functions);
        let body = self.body(first, false);
        self.recurring.recurs(index, known, at);
        self.finish(stretch, facts, stretch.start + stretch.body as u64, (same.skeleton, body));
        true
    }

    fn mentions(&mut self) -> &mut Vec<Mention> {
        &mut self.scan.mentions[0]
    }

    /// With what has been mentioned since there were so many.
    fn body(&mut self, first: usize, opaque: bool) -> Body {
        Body { part: self.part, mentions: first as u32..self.mentions().len() as u32, opaque }
    }

    fn is_alone(&self, functions: &Range<usize>) -> bool {
        let function = &self.image.functions[functions.start];
        functions.len() == 1 && !function.auxiliary && !function.indirect
    }

    /// Notes what is known of a stretch; from `padding_from` on it may be overwritten.
    fn finish(&mut self, stretch: &Stretch<'_>, facts: Facts, padding_from: u64, (skeleton, body): (u128, Body)) {
        let end = stretch.start + stretch.bytes.len() as u64;
        let padding_start = padding_from.max(facts.at.0 + entry::NEAR);
        if padding_start + entry::NEAR <= end {
            self.padding.0.push((Vaddr(padding_start), Vaddr(end)));
        }
        if let Some(functions) = &stretch.functions {
            // Sections of a damaged file may overlap: what was found first stays. None is left out, as each lies in a section.
            for _ in functions.start.max(self.first + self.facts.len())..functions.end {
                self.facts.push(facts);
                self.scan.skeletons.push(skeleton);
                self.scan.bodies.push(body.clone());
            }
        }
    }

    fn decode(&mut self, stretch: &Stretch<'_>) {
        let Stretch { functions, start, bytes, body } = stretch;
        let (start, body) = (*start, *body);
        let index = functions.as_ref().map(|range| range.start);
        let owner = index.map(|index| index as u32);
        let (end, body_end) = (start + bytes.len() as u64, start + body as u64);
        let inside = |target: Vaddr| (start..end).contains(&target.0);
        let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut facts = Facts::at(Vaddr(start));
        let mut opaque = false;
        let first_mention = self.mentions().len();
        let mut padding_from = body_end;
        let mut tls = TlsTracker::default();
        let mut local_exec =
            LocalExec::new(self.image.tables.thread_pointer().filter(|_| owner.is_some()).unwrap_or(0));
        let mut tables = TableTracker::default();
        let first_displacement = self.scan.tls_displacements.len();
        let first_use = self.scan.tls_uses.len();
        self.skeleton.clear();
        self.skeleton.extend_from_slice(&bytes[..body]);
        self.record.begin();

        while decoder.can_decode() {
            let ip = decoder.ip();
            decoder.decode_out(&mut instruction);
            let in_body = ip < body_end;
            if instruction.is_invalid() {
                // Data between functions decodes as anything; only inside a body does it matter.
                opaque |= in_body;
                if !in_body {
                    padding_from = instruction.next_ip();
                }
                continue;
            }
            if ip == start && instruction.code() == Code::Endbr64 {
                facts.at = Vaddr(instruction.next_ip());
            }
            if !in_body && !is_padding(&instruction) {
                padding_from = instruction.next_ip();
            }
            // Few instructions have a field that matters, and finding it takes as long as decoding.
            let offsets = || decoder.get_constant_offsets(&instruction);
            let local = (ip - start) as usize;
            if in_body {
                local_exec.visit(&instruction, offsets);
            }

            if instruction.is_ip_rel_memory_operand() && offsets().displacement_size() == 4 {
                let offsets = offsets();
                let target = Vaddr(instruction.ip_rel_memory_address());
                let site = Vaddr(ip + offsets.displacement_offset() as u64);
                let next = Vaddr(instruction.next_ip());
                let address_taken = instruction.mnemonic() == Mnemonic::Lea;
                let mut constant = None;
                if address_taken && self.pairs.all.binary_search(&target).is_ok() {
                    let general = bytes[local] == OPERAND_SIZE;
                    self.scan.tls_uses.push(TlsUse { site, next, pair: target, function: owner, general });
                    if !general && self.pairs.local_dynamic.binary_search(&target).is_ok() {
                        tls.block_requested();
                    }
                } else if address_taken && self.pairs.descriptors.binary_search(&target).is_ok() {
                    self.scan.tls_uses.push(TlsUse { site, next, pair: target, function: owner, general: false });
                    tls.block_described();
                } else {
                    constant = Some(self.memory(owner, site, next, target, address_taken));
                }
                if in_body {
                    self.mentions().push(Mention::Memory(target));
                    if owner.is_some() && constant.unwrap_or_else(|| self.image.is_in_constant(target)) {
                        self.scan.constants.push(target);
                    }
                    let at = local + offsets.displacement_offset();
                    self.blank(at, 4);
                    let kind = if address_taken { FieldKind::Address } else { FieldKind::Memory };
                    self.record.field(start, at, next.0, kind);
                    if inside(target) || instruction.memory_base() != Register::RIP {
                        self.record.spoil();
                    }
                }
            } else if let Some(function) = owner
                && self.image.tables.tls_size > 0
                && !self.image.tables.program
                && in_body
                && instruction.mnemonic() != Mnemonic::Nop
                && (accesses_memory(&instruction) || adds_constant(&instruction))
            {
                let offsets = offsets();
                if offsets.displacement_size() == 4 {
                    self.displacement(function, ip + offsets.displacement_offset() as u64, &instruction, &tls);
                } else if offsets.immediate_size() == 4 {
                    self.addition(function, ip + offsets.immediate_offset() as u64, &instruction, &tls);
                }
            }

            let flow = instruction.flow_control();
            match flow {
                FlowControl::UnconditionalBranch
                | FlowControl::ConditionalBranch
                | FlowControl::Call
                | FlowControl::XbeginXabortXend
                    if is_near_branch(&instruction) =>
                {
                    let target = Vaddr(instruction.near_branch_target());
                    let mention = if inside(target) {
                        facts.lands(target);
                        Mention::Branch(target)
                    } else {
                        self.branch(target)
                    };
                    if in_body && !(target.0 >= start && target.0 < body_end) {
                        let offsets = offsets();
                        self.mentions().push(mention);
                        let at = local + offsets.immediate_offset();
                        self.blank(at, offsets.immediate_size());
                        self.record.field(start, at, instruction.next_ip(), FieldKind::Branch);
                        if offsets.immediate_size() != 4 || inside(target) {
                            self.record.spoil();
                        }
                    }
                }
                _ => {}
            }
            if matches!(flow, FlowControl::Call | FlowControl::IndirectCall) {
                facts.lands(Vaddr(instruction.next_ip()));
            }
            if instruction.mnemonic() == Mnemonic::Syscall {
                // A thread that waits in the call stands behind it, and goes back to it when the call is restarted.
                facts.lands(Vaddr(ip));
                facts.lands(Vaddr(instruction.next_ip()));
            }
            tls.after(&instruction);
            if let Some(table) = tables.after(&instruction) {
                self.scan.relative_tables.push(table.address);
                self.record.is_table(start, table.next);
            }
        }

        let clean_tail = padding_from == body_end;
        let room_end = if clean_tail { end } else { body_end };
        facts.ends(body_end, room_end);
        facts.alone = functions.as_ref().is_some_and(|range| self.is_alone(range));
        if !tls.uses_block {
            self.scan.tls_displacements.truncate(first_displacement);
        }
        let distances = local_exec.finish().into_iter().zip(owner.into_iter().cycle());
        self.scan.tls_displacements.extend(distances.map(|(site, function)| TlsDisplacement {
            site: Vaddr(site.at),
            offset: site.offset,
            function,
            exact: false,
            certain: site.certain,
        }));
        for index in first_displacement..self.scan.tls_displacements.len() {
            let displacement = self.scan.tls_displacements[index];
            if displacement.certain && displacement.site.0 < body_end {
                self.mentions().push(Mention::ThreadLocal(displacement.offset));
                self.blank((displacement.site.0 - start) as usize, 4);
            }
        }
        let skeleton = if functions.is_some() { XxHash3_128::oneshot(&self.skeleton) } else { 0 };
        let thread_locals =
            self.scan.tls_displacements.len() > first_displacement || self.scan.tls_uses.len() > first_use;
        if !clean_tail || opaque || thread_locals || tables.mixed {
            self.record.spoil();
        }
        let body = self.body(first_mention, opaque);
        if let (Some(function), Some(fields)) = (owner, self.record.fields()) {
            self.recurring.decoded(function, stretch, facts, fields);
        }
        self.finish(stretch, facts, padding_from, (skeleton, body));
    }

    /// Notes where a branch out of a function leads. At a function's start it lands inside no entry.
    fn branch(&mut self, target: Vaddr) -> Mention {
        match self.image.function_starting_at(target) {
            Some(index) => Mention::Function { index: index as u32, start: target },
            None => {
                self.stray_targets.push(target);
                Mention::Branch(target)
            }
        }
    }

    /// Notes a reference; whether it is to a constant.
    fn memory(&mut self, function: Option<u32>, site: Vaddr, next: Vaddr, target: Vaddr, address_taken: bool) -> bool {
        let kind = self.image.section_at(target).map(|section| section.kind);
        let wanted = match kind {
            Some(kind) if kind.is_state() => true,
            Some(SectionKind::Code) => {
                let entry = self.image.function_starting_at(target).is_some();
                self.stray_targets.extend((!entry).then_some(target));
                address_taken && entry
            }
            Some(SectionKind::Constant) if address_taken && target.0.is_multiple_of(4) => {
                self.possible_tables.extend(function.map(|function| (function, target)));
                false
            }
            // A slot of the GOT that stands for a static.
            Some(SectionKind::Constant) => self.image.relocation_at(target).is_some_and(|relocation| {
                relocation.kind == RelocationKind::Address
                    && matches!(relocation.resolves, Resolves::Symbol { here: Some(_), .. })
            }),
            // One past the end of the last section of state is still an address of state.
            None => {
                self.image.section_at(Vaddr(target.0.wrapping_sub(1))).is_some_and(|section| section.kind.is_state())
            }
            _ => false,
        };
        let function = function.unwrap_or(NOBODY);
        // An instruction has 15 bytes at most.
        let reference = CodeReference { site, target, function, length: (next.0 - site.0) as u8, address_taken };
        if wanted {
            self.scan.references.push(reference);
        } else if address_taken && self.approach.contains(target) {
            self.scan.approaches.push(reference);
        }
        kind == Some(SectionKind::Constant)
    }

    fn displacement(&mut self, function: u32, site: u64, instruction: &Instruction, tls: &TlsTracker) {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let held = tls.holds_block(base)
            || (index != Register::None && instruction.memory_index_scale() == 1 && tls.holds_block(index));
        let offset = instruction.memory_displacement64();
        let inside = if held { self.near_block(offset) } else { offset < self.image.tables.tls_size };
        if !inside || (!held && matches!(base, Register::None | Register::RSP | Register::RIP)) {
            return;
        }
        // The assembler writes small displacements in one byte; four bytes for one is a `DTPOFF32`.
        let certain = held || (-128..128).contains(&(offset as i64));
        let exact = index == Register::None && instruction.mnemonic() != Mnemonic::Lea;
        if certain || (base != Register::RBP && index == Register::None) {
            let site = Vaddr(site);
            self.scan.tls_displacements.push(TlsDisplacement { site, offset, function, exact, certain });
        }
    }

    /// `add $offset, block`
    fn addition(&mut self, function: u32, site: u64, instruction: &Instruction, tls: &TlsTracker) {
        let offset = instruction.immediate32to64() as u64;
        if adds_constant(instruction)
            && instruction.op0_kind() == OpKind::Register
            && tls.holds_block(instruction.op0_register())
            && self.near_block(offset)
        {
            let (site, exact, certain) = (Vaddr(site), false, true);
            self.scan.tls_displacements.push(TlsDisplacement { site, offset, function, exact, certain });
        }
    }

    /// Inside the TLS block, at its end, or so little before it that an index may lead there.
    fn near_block(&self, offset: u64) -> bool {
        offset <= self.image.tables.tls_size || offset.wrapping_neg() <= APPROACH
    }

    fn blank(&mut self, at: usize, len: usize) {
        if let Some(field) = self.skeleton.get_mut(at..at + len) {
            field.fill(0);
        }
    }
}

/// What all parts found, in the order of the file, and what follows from the whole of it.
fn joined(image: &Image, mut parts: Vec<Scanner<'_>>, landing_pads: &[Vaddr]) -> Scan {
    let recurring: Vec<Recurring> = parts.iter_mut().map(|part| std::mem::take(&mut part.recurring).finish()).collect();
    let references = lists(&mut parts, |part| &mut part.scan.references);
    // They are copied and put in order, which takes about as long as the rest.
    let ordered = || {
        let mut references = together(references);
        references.sort_unstable_by_key(|reference| reference.site);
        references
    };
    let rest = || (Recurring::joined(recurring.into_iter()), joined_findings(image, &mut parts, landing_pads));
    let (references, (recurring, scan)) = image.hands.both(ordered, rest);
    Scan { recurring, references, ..scan }
}

/// The same of all but the references and what recurs.
fn joined_findings(image: &Image, parts: &mut [Scanner<'_>], landing_pads: &[Vaddr]) -> Scan {
    let count = image.functions.len();
    let mut scan = Scan {
        bodies: Vec::with_capacity(count),
        skeletons: Vec::with_capacity(count),
        approaches: together(lists(parts, |part| &mut part.scan.approaches)),
        tls_uses: together(lists(parts, |part| &mut part.scan.tls_uses)),
        tls_displacements: together(lists(parts, |part| &mut part.scan.tls_displacements)),
        relative_tables: together(lists(parts, |part| &mut part.scan.relative_tables)),
        mentions: lists(parts, |part| part.mentions()),
        constants: together(lists(parts, |part| &mut part.scan.constants)),
        ..Scan::default()
    };
    let mut facts: Vec<Facts> = Vec::with_capacity(count);
    for part in parts.iter() {
        // As within a part: what was found first stays.
        let known = facts.len() - part.first..;
        facts.extend_from_slice(part.facts.get(known.clone()).unwrap_or_default());
        scan.skeletons.extend_from_slice(part.scan.skeletons.get(known.clone()).unwrap_or_default());
        scan.bodies.extend_from_slice(part.scan.bodies.get(known).unwrap_or_default());
    }
    let mut padding = Padding(together(lists(parts, |part| &mut part.padding.0)));
    let possible_tables = together(lists(parts, |part| &mut part.possible_tables));
    // Labels whose addresses stand in data: computed jumps may arrive there.
    let labels = image.tables.relocations.iter().filter_map(|relocation| match relocation.resolves {
        Resolves::Here(target) if relocation.kind == RelocationKind::Address => Some(target),
        _ => None,
    });
    let stray_targets = together(lists(parts, |part| &mut part.stray_targets));
    let stray_targets = stray_targets
        .into_iter()
        .chain(labels.filter(|target| image.function_starting_at(*target).is_none()))
        .chain(landing_pads.iter().copied())
        .chain(switches::cases(image, possible_tables));
    for target in ascending(stray_targets.map(|target| target.0).collect()).into_iter().map(Vaddr) {
        if let Some(covering) = image.function_covering(target) {
            let start = image.functions[covering].address;
            let aliases = image.functions[covering..].iter().take_while(|alias| alias.address == start).count();
            facts[covering..covering + aliases].iter_mut().for_each(|facts| facts.lands(target));
        }
    }
    padding.0.sort_unstable();
    scan.entries = entry::decide(&facts, image.functions.iter().map(|function| function.address), &mut padding);
    scan.approaches.sort_unstable_by_key(|reference| reference.site);
    scan.relative_tables.sort_unstable();
    scan.relative_tables.dedup();
    scan
}

/// What each part has in a list.
fn lists<'a, T>(
    parts: &mut [Scanner<'a>],
    list: impl for<'b> Fn(&'b mut Scanner<'a>) -> &'b mut Vec<T>,
) -> Vec<Vec<T>> {
    parts.iter_mut().map(|part| std::mem::take(list(part))).collect()
}

/// What several lists have, in their order.
fn together<T>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut lists = lists.into_iter();
    let mut all = lists.next().unwrap_or_default();
    all.reserve_exact(lists.as_slice().iter().map(Vec::len).sum());
    lists.for_each(|mut list| all.append(&mut list));
    all.shrink_to_fit();
    all
}

/// Registers that survive a call (psABI, 3.2.1).
pub const CALLEE_SAVED: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

fn adds_constant(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Add_rm64_imm32 | Code::Add_RAX_imm32)
}

/// Whether it has an operand in memory, or one that looks like it (`lea`).
pub fn accesses_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
}

/// Whether it stands between functions and does nothing.
pub fn is_padding(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Fnop)
}

fn is_near_branch(instruction: &Instruction) -> bool {
    matches!(instruction.op0_kind(), OpKind::NearBranch64)
}
