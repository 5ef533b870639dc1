;; Fills the log with bytes of which each becomes three.
;; expect: out-of-fuel
(module
  (import "optwasm_v1" "log" (func $log (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 27) (i32.const 1000))
    (loop $l
      (call $log (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 100))
      (br $l))))
