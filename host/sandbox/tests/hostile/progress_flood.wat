;; Reports progress without end, and of numbers that are none.
;; expect: out-of-fuel
(module
  (import "optwasm_v1" "progress" (func $progress (param f64 f64) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (loop $l
    (drop (call $progress (f64.const nan) (f64.const -inf))) (br $l))))
