;; Reports incumbents without end.
;; expect: out-of-fuel
(module
  (import "optwasm_v1" "incumbent" (func $incumbent (param f64 f64 i32 i32)))
  (memory (export "memory") 16)
  (func (export "_start") (loop $l
    (call $incumbent (f64.const 0) (f64.const 0) (i32.const 0) (i32.const 1000000)) (br $l))))
