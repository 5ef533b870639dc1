;; Exports a function as `memory`.
;; expect: rejected
;; because: `memory`
(module
  (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
  (memory 1)
  (func (export "memory"))
  (func (export "_start") (call $output (i32.const 0) (i32.const 1))))
