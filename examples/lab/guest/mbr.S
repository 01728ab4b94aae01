# SPDX-License-Identifier: Apache-2.0
# The first sector of a lab guest's disk, which fetches all that lies before the kernel, and what leads from the BIOS
# to load() of loader.c, and from there into the kernel: in 32-bit mode, segments over all memory, no interrupts, and
# with the BIOS's map of the memory.
	.code16
	.text
	.globl	mbr, memory, n_memory
mbr:	cld
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$mbr, %sp
	ljmp	$0, $1f
1:	movw	$packet, %si
	movb	$0x42, %ah		# of disk %dl, which the BIOS has set
	int	$0x13
	jnc	rest
	movw	$0x0e21, %ax		# "!"
	int	$0x10
1:	hlt
	jmp	1b

packet:	.byte	16, 0
	.word	KERNEL_SECTOR - 1, rest, 0
	.quad	1

	.org	446			# the partition table
	.org	510
	.word	0xaa55

rest:	movw	$__bss_start, %di
	movw	$_end, %cx
	subw	%di, %cx
	xorw	%ax, %ax
	rep stosb
	movw	$memory, %di
	xorl	%ebx, %ebx
1:	movl	$0xe820, %eax
	movl	$20, %ecx
	movl	$0x534d4150, %edx	# "SMAP"
	int	$0x15
	jc	2f
	addw	$24, %di
	incl	n_memory
	cmpl	$32, n_memory
	je	2f
	testl	%ebx, %ebx
	jnz	1b
2:	cli
	lgdt	gdtr
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmp	$8, $3f
	.code32
3:	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$mbr, %esp
	call	load
	movl	%eax, %ebx
	movl	$KERNEL_ENTRY, %eax
	jmp	*%eax

	.balign	8
gdt:	.quad	0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:	.word	. - gdt - 1
	.long	gdt
n_memory:
	.long	0

	.bss
	.balign	8
memory:	.skip	32 * 24

	.section .note.GNU-stack, "", @progbits
