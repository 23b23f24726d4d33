// A small Lisp with reference counts: cells, boxed numbers, strings and call frames come and go by the million, in one
// thread, most of them young. Stands for interpreters without a pool of their own.
//
//   interpreter ROUNDS
#include "common.h"

enum Kind : uint32_t { NUMBER, TEXT, SYMBOL, PAIR, LAMBDA };

struct Value {
    uint32_t references;
    Kind kind;
};
struct Number : Value { int64_t value; };
struct Text : Value { uint32_t length; char bytes[]; };
struct Pair : Value { Value *first, *rest; };
struct Binding { Value* symbol; Value* value; };
struct Frame { uint32_t references; uint32_t count; Frame* outer; Binding bindings[]; };
struct Lambda : Value { Value *parameters, *body; Frame* frame; };

template <typename T>
static T* make(Kind kind, size_t more = 0) {
    auto* value = static_cast<T*>(checked(malloc(sizeof(T) + more)));
    value->references = 1;
    value->kind = kind;
    return value;
}

static void drop(Value* value);

static void drop(Frame* frame) {
    while (frame != nullptr && --frame->references == 0) {
        for (uint32_t i = 0; i < frame->count; i++) drop(frame->bindings[i].value);
        Frame* outer = frame->outer;
        free(frame);
        frame = outer;
    }
}

static void drop(Value* value) {
    while (value != nullptr && --value->references == 0) {
        Value* next = nullptr;
        if (value->kind == PAIR) {
            drop(static_cast<Pair*>(value)->first);
            next = static_cast<Pair*>(value)->rest;
        } else if (value->kind == LAMBDA) {
            auto* lambda = static_cast<Lambda*>(value);
            drop(lambda->frame);
            drop(lambda->parameters);
            next = lambda->body;
        }
        free(value);
        value = next;
    }
}

static Value* keep(Value* value) {
    if (value != nullptr) value->references++;
    return value;
}

static Value* boxed(int64_t value) {
    auto* made = make<Number>(NUMBER);
    made->value = value;
    return made;
}

static Value* text(Kind kind, const char* bytes, size_t length) {
    auto* made = make<Text>(kind, length + 1);
    made->length = length;
    memcpy(made->bytes, bytes, length);
    made->bytes[length] = 0;
    return made;
}

static Value* cons(Value* first, Value* rest) {
    auto* made = make<Pair>(PAIR);
    made->first = first;
    made->rest = rest;
    return made;
}

static Value* first(Value* list) { return static_cast<Pair*>(list)->first; }
static Value* rest(Value* list) { return static_cast<Pair*>(list)->rest; }
static int64_t integer(Value* value) { return value != nullptr && value->kind == NUMBER ? static_cast<Number*>(value)->value : 0; }

// Symbols are the same object where they have the same name.
static Value* symbols = nullptr;

static Value* symbol(const char* name, size_t length) {
    for (Value* at = symbols; at != nullptr; at = rest(at)) {
        auto* known = static_cast<Text*>(first(at));
        if (known->length == length && memcmp(known->bytes, name, length) == 0) return keep(known);
    }
    Value* made = text(SYMBOL, name, length);
    symbols = cons(keep(made), symbols);
    return made;
}

static Value* parse(const char*& at) {
    while (*at == ' ' || *at == '\n') at++;
    if (*at == '(') {
        Value* list = nullptr;
        Value** end = &list;
        for (at++;; end = &static_cast<Pair*>(*end)->rest) {
            while (*at == ' ' || *at == '\n') at++;
            if (*at == ')') break;
            *end = cons(parse(at), nullptr);
        }
        at++;
        return list;
    }
    const char* start = at;
    while (*at != 0 && strchr(" \n()", *at) == nullptr) at++;
    if (*start == '"') return text(TEXT, start + 1, at - start - 2);
    if (*start >= '0' && *start <= '9') return boxed(strtoll(start, nullptr, 10));
    return symbol(start, at - start);
}

static Value *IF, *DEFINE, *FN, *NIL, *ADD, *SUB, *MUL, *MOD, *LESS, *EQUAL, *CONS, *CAR, *CDR, *JOIN, *LENGTH, *EMPTY;
static Binding globals[64];
static uint32_t global_count;

static Value* look_up(Value* name, Frame* frame) {
    for (; frame != nullptr; frame = frame->outer)
        for (uint32_t i = 0; i < frame->count; i++)
            if (frame->bindings[i].symbol == name) return keep(frame->bindings[i].value);
    for (uint32_t i = 0; i < global_count; i++)
        if (globals[i].symbol == name) return keep(globals[i].value);
    return nullptr;
}

static Value* evaluate(Value* form, Frame* frame);

static Value* joined(Value* a, Value* b) {
    char digits[2][24];
    const char* bytes[2];
    size_t lengths[2];
    Value* both[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        if (both[i] != nullptr && both[i]->kind == TEXT) {
            bytes[i] = static_cast<Text*>(both[i])->bytes;
            lengths[i] = static_cast<Text*>(both[i])->length;
        } else {
            lengths[i] = snprintf(digits[i], sizeof digits[i], "%lld", static_cast<long long>(integer(both[i])));
            bytes[i] = digits[i];
        }
    }
    auto* made = make<Text>(TEXT, lengths[0] + lengths[1] + 1);
    made->length = lengths[0] + lengths[1];
    memcpy(made->bytes, bytes[0], lengths[0]);
    memcpy(made->bytes + lengths[0], bytes[1], lengths[1]);
    made->bytes[made->length] = 0;
    return made;
}

// The built-in function `name` of one or two evaluated arguments; `found` says whether there is one.
static Value* built_in(Value* name, Value* a, Value* b, bool& found) {
    found = true;
    if (name == ADD) return boxed(integer(a) + integer(b));
    if (name == SUB) return boxed(integer(a) - integer(b));
    if (name == MUL) return boxed(integer(a) * integer(b));
    if (name == MOD) return boxed(integer(a) % integer(b));
    if (name == LESS) return integer(a) < integer(b) ? boxed(1) : nullptr;
    if (name == EQUAL) return integer(a) == integer(b) ? boxed(1) : nullptr;
    if (name == CONS) return cons(keep(a), keep(b));
    if (name == CAR) return keep(first(a));
    if (name == CDR) return keep(rest(a));
    if (name == JOIN) return joined(a, b);
    if (name == LENGTH) return boxed(static_cast<Text*>(a)->length);
    if (name == EMPTY) return a == nullptr ? boxed(1) : nullptr;
    found = false;
    return nullptr;
}

static Value* call(Value* form, Frame* frame) {
    Value* name = first(form);
    Value* arguments[4] = {};
    uint32_t count = 0;
    for (Value* at = rest(form); at != nullptr && count < 4; at = rest(at)) arguments[count++] = evaluate(first(at), frame);
    bool found = false;
    Value* answer = built_in(name, arguments[0], arguments[1], found);
    if (found) {
        for (Value* argument : arguments) drop(argument);
        return answer;
    }
    Value* function = evaluate(name, frame);
    if (function == nullptr || function->kind != LAMBDA) abort();
    auto* lambda = static_cast<Lambda*>(function);
    auto* inner = static_cast<Frame*>(checked(malloc(sizeof(Frame) + count * sizeof(Binding))));
    inner->references = 1;
    inner->count = count;
    inner->outer = lambda->frame;
    if (inner->outer != nullptr) inner->outer->references++;
    Value* parameter = lambda->parameters;
    for (uint32_t i = 0; i < count; i++, parameter = rest(parameter)) inner->bindings[i] = {first(parameter), arguments[i]};
    answer = evaluate(lambda->body, inner);
    drop(inner);
    drop(function);
    return answer;
}

static Value* evaluate(Value* form, Frame* frame) {
    if (form == nullptr) return nullptr;
    if (form->kind == SYMBOL) return form == NIL ? nullptr : look_up(form, frame);
    if (form->kind != PAIR) return keep(form);
    Value* head = first(form);
    if (head == IF) {
        Value* test = evaluate(first(rest(form)), frame);
        bool is_true = test != nullptr;
        drop(test);
        Value* branches = rest(rest(form));
        return evaluate(first(is_true ? branches : rest(branches)), frame);
    }
    if (head == FN) {
        auto* lambda = make<Lambda>(LAMBDA);
        lambda->parameters = keep(first(rest(form)));
        lambda->body = keep(first(rest(rest(form))));
        lambda->frame = frame;
        if (frame != nullptr) frame->references++;
        return lambda;
    }
    if (head == DEFINE) {
        globals[global_count].symbol = first(rest(form));
        globals[global_count++].value = evaluate(first(rest(rest(form))), frame);
        return nullptr;
    }
    return call(form, frame);
}

static const char PROGRAM[] = R"((
(define fib (fn (n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2))))))
(define range (fn (a b) (if (= a b) nil (cons a (range (+ a 1) b)))))
(define map (fn (f l) (if (empty l) nil (cons (f (car l)) (map f (cdr l))))))
(define keep (fn (f l) (if (empty l) nil (if (f (car l)) (cons (car l) (keep f (cdr l))) (keep f (cdr l))))))
(define fold (fn (f a l) (if (empty l) a (fold f (f a (car l)) (cdr l)))))
(define adder (fn (n) (fn (x) (+ x n))))
(define words (fn (l) (fold (fn (a x) (+ a (length (join "item-" (join x (join "/" (* x x))))))) 0 l)))
))";
static const char ROUND[] = R"(
(+ (fib 15) (+ (words (range 0 300)) (fold (fn (a x) (% (+ (* a 31) x) 1000003)) 7
  (keep (fn (x) (< (% x 7) 5)) (map (adder 13) (range 0 400)))))))";

int main(int argc, char** argv) {
    uint64_t rounds = number(argc, argv, 1), sum = 0;
    struct { Value** place; const char* name; } known[] = {
        {&IF, "if"}, {&DEFINE, "define"}, {&FN, "fn"}, {&NIL, "nil"}, {&ADD, "+"}, {&SUB, "-"}, {&MUL, "*"}, {&MOD, "%"},
        {&LESS, "<"}, {&EQUAL, "="}, {&CONS, "cons"}, {&CAR, "car"}, {&CDR, "cdr"}, {&JOIN, "join"}, {&LENGTH, "length"},
        {&EMPTY, "empty"}};
    for (auto& one : known) *one.place = symbol(one.name, strlen(one.name));
    const char* at = PROGRAM;
    for (Value* form = parse(at); form != nullptr; form = rest(form)) evaluate(first(form), nullptr);
    for (uint64_t i = 0; i < rounds; i++) {
        at = ROUND;
        Value* form = parse(at);
        Value* answer = evaluate(form, nullptr);
        sum = mix(sum, integer(answer) + i);
        drop(answer);
        drop(form);
    }
    finish(sum);
    return 0;
}
